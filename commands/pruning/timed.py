"""``--latency``: measuring before the search, and after it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...pruners.base import BasicPruning
from ...pruners.costs import Allowance
from ...pruners.latency import LatencyModel, Measuring, Realize, Table, latencies, machine, verdict, with_batch
from ...pruners.search import SearchSettings
from ..cli import PruneOptions
from ..show import Voice


class Timed:
    """What a run with ``--latency`` knows about time; ``model`` predicts it."""

    def __init__(
        self, options: PruneOptions, settings: SearchSettings, pruner: BasicPruning, device: torch.device, voice: Voice
    ) -> None:
        self.options, self.settings, self.pruner, self.device, self.voice = options, settings, pruner, device, voice
        self._started = False
        self.model: LatencyModel | None = None

    def measure(self, network: nn.Module, realize: Realize) -> LatencyModel | None:
        """Measure what isn't known yet; None where no budget is of latency."""
        if self.settings.budget is None or self.settings.budget.kind != "latency":
            return None
        table = Table(machine(self.device), self.options.latency_table)
        if table.remark:
            self.voice.remark(table.remark)
        graph, costs = self.pruner.graph, self.pruner.costs
        allowance = Allowance(graph, costs, self.settings.limits, None)
        measuring = Measuring(table, device=self.device, batch=self.options.latency_batch, told=self._tell)
        try:
            self.model = measuring.model(network, graph, self.pruner.example_input, allowance, realize)
        finally:
            if self._started:
                self.voice.progress.finish()
        self.voice.remark(f"{self.pruner.netName}: {1000 * self.model.whole:.2f} ms on {self.device.type}")
        return self.model

    def _tell(self, done: int, total: int) -> None:
        if not self._started:
            self.voice.progress.start(total, "measuring layers")
            self._started, self._done = True, 0
        self.voice.progress.advance(done - self._done)
        self._done = done

    def compared(self, before: nn.Module, after: nn.Module, kept: dict[str, Any]) -> dict[str, Any]:
        """For the summary: milliseconds of both, and for a budget of latency what came of it."""
        models, inputs = {"before": before, "after": after}, self.pruner.example_input
        budget = self.settings.budget
        if self.model is None or budget is None:
            return {"latency_ms": latencies(models, inputs)}
        batch = self.options.latency_batch
        ms = latencies(models, with_batch(inputs, batch), self.device)
        ms = {name: round(n / batch, 4) for name, n in ms.items()}  # of one input
        predicted = self.model.fraction({name: len(groups) for name, groups in kept.items()})
        return {"latency_ms": ms, "latency": verdict(budget.value, predicted, ms, self.device, batch)}
