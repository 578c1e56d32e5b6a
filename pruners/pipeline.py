"""From a network to a bundle: search, plan, carry out, transfer, retrain, verify, publish. What Python and the command
line share; how networks are judged and trained is handed in."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .base import BasicPruning
from .bundle import Bundle
from .costs import Allowance, Budget
from .depth import Distance
from .errors import SecateurError, WrittenError
from .graph import Kept
from .latency import LatencyModel, Measuring, device_of, latencies, machine, verdict, with_batch
from .plan import PruningPlan
from .run import call_arguments, copied, described, run, tree_map
from .search import SEARCHES, Evaluator, Reference, SearchResult, SearchSettings, search
from .transfer import TransferImages, TransferJob, require_images

log = logging.getLogger(__name__)

Judge = Callable[[nn.Module, PruningPlan], Mapping[str, Any]]
"""(the generated network, its plan) -> what is measured, for the summary. It may train the network in place."""


LAYER_BATCHES = 2  # to judge by, every layer that could go
_SECONDS = 0.5  # for the times that are told where none were asked for


def points(per: str) -> dict[str, Any]:
    """How many random and suggested points a bayesian search has for all stages at once; else as it is set."""
    return {"init_points": 10, "n_iter": 30} if per == "stage" else {}


def closeness(
    model: nn.Module, batches: Sequence[Any], classes: bool = True, most: int = LAYER_BATCHES
) -> Distance:
    """How far outputs move on images, as the sensitivity search measures it; the first of them are enough."""
    reference = Reference(model, batches[:most], classes)
    return lambda other: reference.compare(other).damage


class Pipeline:
    """One run. ``transfer``: the strategy's name, ``images`` what it looks at, ``seconds`` the time it may take if it
    trains. ``known``: is told every network that comes from a written file. ``told``: gets what is worth a line,
    ``report`` the progress of transfer. ``result`` and ``latency`` are there after ``decide``."""

    def __init__(
        self, pruner: BasicPruning, settings: SearchSettings, transfer: str = "slice",
        images: TransferImages | None = None, *, seconds: float | None = None,
        known: Callable[[nn.Module], nn.Module] = lambda network: network,
        told: Callable[[str], None] = log.warning, report: Callable[[int, int, str], None] = lambda *progress: None,
    ) -> None:  # fmt: skip
        self.images = images or TransferImages()
        require_images(transfer, self.images.many is not None)
        SEARCHES.find(settings.strategy)
        settings = self._rest(pruner, settings)
        self.pruner, self.settings, self.transfer, self.seconds = pruner, settings, transfer, seconds
        self.known, self.told, self.report = known, told, report
        self.device = self.images.device or device_of(pruner.model)
        self.result: SearchResult | None = None
        self.latency: LatencyModel | None = None
        self._measuring: Measuring | None = None

    @staticmethod
    def _rest(pruner: BasicPruning, settings: SearchSettings) -> SearchSettings:
        """What is left of the budget where layers were taken out; without one where that is enough."""
        budget = settings.budget
        if budget is None or budget.kind not in ("macs", "params") or not pruner.without:
            return settings
        whole, left = (getattr(c, budget.kind) for c in (pruner.before, pruner.predict({})))
        share = budget.value * whole / left
        return replace(settings, budget=Budget(budget.kind, share) if share < 1 else None)

    # -- how many

    def measure(self, measuring: Measuring) -> LatencyModel:
        """Learn how long the layers take, for a budget of latency."""
        pruner, self._measuring = self.pruner, measuring
        allowance = Allowance(pruner.graph, pruner.costs, self.settings.limits, None)
        self.latency = measuring.model(pruner.model, pruner.graph, pruner.example_input, allowance, self.realize)
        return self.latency

    def evaluator(self, **judging: Any) -> Evaluator:
        """Makes candidates, and judges them by what is given (see ``Evaluator``)."""
        finish, probe = (self.weights.finish, self.weights.probe) if self.images.many else (None, None)
        return Evaluator(self.pruner.model, realize=self.realize, finish=finish, probe=probe, **judging)

    def decide(self, facts: Mapping[str, Any], evaluator: Evaluator, **arguments: Any) -> PruningPlan:
        """Trace, search, and make the plan. ``facts`` go into it; ``arguments``: more of ``search``'s. Where layers
        were taken out and no budget is left, all channels stay."""
        if self.pruner.without and self.settings.budget is None and self.settings.strategy != "bayesian":
            return self._keep_all(facts)
        self.result = search(
            self.pruner.model, self.pruner.graph, self.settings, evaluator=evaluator, latency=self.latency,
            weights=self.pruner.provenance["weights_sha256"], costs=self.pruner.costs, **arguments,
        )  # fmt: skip
        return self.pruner.plan(self.result.kept, **facts)

    def _keep_all(self, facts: Mapping[str, Any]) -> PruningPlan:
        kept = {w.name: tuple(range(w.size)) for w in self.pruner.graph.widths}
        self.result = SearchResult(kept, self.pruner.before, self.pruner.predict({}))
        return self.pruner.plan(kept, **facts)

    def realize(self, model: nn.Module, kept: Kept) -> nn.Module:
        """A live pruned copy of ``model``, which is the network, maybe with other weights."""
        return self.known(self.pruner.realize(kept, model))

    @cached_property
    def weights(self) -> TransferJob:
        """Gives candidates and the published network their weights."""
        return TransferJob(
            self.transfer, self.pruner.model, self.pruner.graph, self.realize, self.images, self.settings.seed,
            teacher=self.pruner.whole, seconds=self.seconds,
        )  # fmt: skip

    # -- the bundle

    def publish(
        self, plan: PruningPlan, output: str | Path | None, judge: Judge = lambda network, plan: {}, *,
        files: Callable[[], Mapping[str, bytes]] = dict, force: bool = False,
    ) -> Bundle:  # fmt: skip
        """Write the source, carry the weights over, judge and maybe retrain what it defines, verify and publish.
        ``output`` None: the bundle is in memory alone."""
        made = self.pruner.carry_out(plan)
        if self.pruner.streams:  # and so do the slices
            self._run_once(made.sliced.model)
            return self.pruner.publish(made, output, files=files(), force=force)
        with torch.random.fork_rng(devices=[]):  # a written network draws weights, which are not looked at
            network = self.pruner.network(made).to(device_of(self.pruner.model))
        network = self.known(network).train(self.pruner.model.training)
        self._run_once(network)
        trained = self.result.state if self.result else None  # where the search has retrained the whole network
        state = self.pruner.model.state_dict() if trained is None else trained
        carried = self.weights.carry_over(network, plan.kept, state, self.report)
        for note in carried.notes:
            self.told(note)
        network.load_state_dict(carried.state)
        measured = {**judge(network, plan), **({"transfer": carried.facts} if carried.facts else {})}
        return self.pruner.publish(
            made, output, state=network.state_dict(), summary=measured, files=files(), force=force
        )

    def _run_once(self, network: nn.Module) -> None:
        """Raises SourceError where the written network doesn't run, before anything is measured with it."""
        device = device_of(network)
        inputs = tree_map(lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf, self.pruner.example_input)
        args, kwargs = call_arguments(inputs)
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                run(copied(network).eval(), args, kwargs)
        except SecateurError:
            raise
        except Exception as error:  # the author's code may raise anything
            line = traceback.extract_tb(error.__traceback__)[-1].line
            raise WrittenError(f"the written file does not run: {described(error)}, at {line}") from error

    def compared(self, after: nn.Module, plan: PruningPlan) -> dict[str, Any]:
        """For the summary: milliseconds of both, and for a budget of latency what came of it."""
        models, inputs = {"before": self.pruner.whole, "after": after}, self.pruner.example_input
        budget, measuring = self.settings.budget, self._measuring
        if self.latency is None or measuring is None or budget is None:
            return {"latency_ms": latencies(models, inputs, seconds=_SECONDS), "machine": machine(torch.device("cpu"))}
        ms = latencies(models, with_batch(inputs, measuring.batch), measuring.device)
        ms = {name: round(n / measuring.batch, 4) for name, n in ms.items()}  # of one input
        predicted = self.latency.fraction({name: len(groups) for name, groups in plan.kept.items()})
        return {
            "latency_ms": ms, "latency": verdict(budget.value, predicted, ms, measuring.device, measuring.batch),
            "machine": machine(measuring.device),
        }  # fmt: skip
