"""A search whose evaluator another process can make again."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from deep_networks import Deep
from judged_search import judged_search
from torch import Tensor, nn

from secateur.pruners.base import BasicPruning
from secateur.pruners.search import Evaluator, SearchResult, SearchSettings
from secateur.pruners.transfer import TransferImages, TransferJob


@dataclass
class Part:
    """``deadly``: a file; while it is there, the process that looks at a candidate removes it and is killed."""

    deadly: Path | None = None

    @cached_property
    def pruner(self) -> BasicPruning:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return BasicPruning(Deep().eval(), torch.randn(2, 3, 8, 8))

    @cached_property
    def images(self) -> Tensor:
        return torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(1))

    def evaluate(self, model: nn.Module) -> tuple[float, float]:
        with torch.no_grad():
            wanted, found = (m.eval()(self.images) for m in (self.pruner.model, model))
        return float((wanted - found).square().mean()), float((wanted.argmax(1) == found.argmax(1)).float().mean())

    def retrain(self, model: nn.Module, epochs: int) -> None:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(0.9)

    @property
    def ways(self) -> dict[str, Any]:
        pruner = self.pruner
        job = TransferJob("lstsq", pruner.model, pruner.graph, self.realize, TransferImages(lambda: [self.images]))
        return {
            "realize": self.realize, "finish": job.finish, "probe": job.probe, "evaluate": self.evaluate,
            "batches": list(self.images.split(32)),
        }  # fmt: skip

    def realize(self, model: nn.Module, kept: Any) -> nn.Module:
        if self.deadly is not None and self.deadly.exists():
            self.deadly.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.pruner.realize(kept, model)

    def __call__(self) -> Evaluator:
        part = type(self)(self.deadly)
        return Evaluator(part.pruner.model, **part.ways)

    def run(self, settings: SearchSettings, **more: Any) -> SearchResult:
        part = Part(self.deadly)
        return judged_search(part.pruner.model, part.pruner.graph, settings, **{**part.ways, **more})
