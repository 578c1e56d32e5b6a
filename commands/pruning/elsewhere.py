"""A run's evaluator, made again in another process from what the command was given."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ...pruners.errors import FactoryError
from ...pruners.measure import Measure
from ...pruners.run import streams
from ...pruners.scratch import scratch
from ...pruners.search import Evaluator, SearchSettings, Workers
from ..cli import PruneOptions
from ..network import network_from
from ..show import Voice
from .job import PruneJob


@dataclass(frozen=True)
class Elsewhere:
    """``weights``: a file with the network's state, None where it stays in files anyway. ``without``: layers that were
    taken out; ``before``: what the user's own measure gives the whole network; ``widths``: what has to come out."""

    options: PruneOptions
    settings: SearchSettings
    weights: Path | None
    without: tuple[str, ...]
    before: float | None
    widths: Mapping[str, int]
    folder: str

    def __call__(self) -> Evaluator:
        os.chdir(self.folder)
        options, voice = replace(self.options, layers=None, experts=None), Voice(-1)
        measure = Measure.named(options.score, options.score_seconds) if options.score else None
        network = network_from(options, voice)
        if self.weights is not None:
            network.model.load_state_dict(torch.load(self.weights, weights_only=True))
        job = PruneJob(options, self.settings, network, None, voice, measure)
        job.pruner.take_out(self.without)
        if {w.name: w.size for w in job.pruner.graph.widths} != self.widths:
            raise FactoryError(
                f"--jobs {options.jobs}: made again in another process, {network.name} has other widths; "
                "a factory must always return the same network"
            )
        return job.evaluator(self.before)


@contextmanager
def workers_for(job: PruneJob, before: float | None) -> Iterator[Workers | None]:
    """The processes that ``--jobs`` asks for, if more than one."""
    if job.options.jobs == 1:
        yield None
        return
    model = job.network.model
    with scratch() as folder:
        weights = None if streams(model) else folder / "network.pt"
        if weights is not None:
            torch.save(model.state_dict(), weights)
        widths = {w.name: w.size for w in job.pruner.graph.widths}
        recipe = Elsewhere(
            job.options, job.settings, weights, job.pruner.without, before, widths, os.getcwd()
        )
        yield Workers(
            recipe, job.options.jobs, backend=job.options.backend, address=job.options.address, folder=folder,
            speed=job.cache.speed,
        )  # fmt: skip
