"""A strategy at work on one network: on the candidates of a search, and on the network that is published."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ..graph import ChannelGraph, Kept, Realize
from ..run import copied
from ..weight_transfer import Transferred, slice_state
from .registry import TRANSFERS, Quick, Report, Strategy, Transfer, report_nothing, transfer

Batches = Callable[[], Sequence[Any]]


@dataclass(frozen=True)
class TransferImages:
    """What a transfer looks at, and where. Batches are read once, when they are needed.

    ``many``: batches for the published network and for probes; None where there are no images. ``few``: batches for a
    candidate of a search; by default ``many``. ``device``: where they are, by default where the network is.
    """

    many: Batches | None = None
    few: Batches | None = None
    device: torch.device | None = None


@dataclass(frozen=True)
class TransferJob:
    """The strategy ``name`` for pruned versions of ``model``, on the device of the images. What is given stays where
    it is, so that what is looked at on another device is a copy.

    ``realize(model, kept)`` makes a candidate with the kept slices; the candidates stay on the device. ``teacher`` and
    ``seconds`` are as in ``Transfer``.

    >>> job = TransferJob("lstsq", model, graph, realize, TransferImages(lambda: images.split(128)))
    >>> candidate = job.finish(model, {"conv1": (0, 2, 3)})
    """

    name: str
    model: nn.Module
    graph: ChannelGraph
    realize: Realize
    images: TransferImages = TransferImages()
    seed: int = 0
    teacher: nn.Module | None = None
    seconds: float | None = None

    def finish(self, _: nn.Module, kept: Kept) -> nn.Module:
        """A candidate as it would be in the end, from few images."""
        return self._improve(self._candidate(kept), kept, self._few)

    @property
    def probe(self) -> Realize | None:
        """``finish`` for where one width alone is narrower, from many images, by the strategy's quick way; None where
        it has none."""
        return self._probe if TRANSFERS.find(self._for_candidates).quick else None

    def carry_over(
        self, pruned: nn.Module, kept: Kept, state: Mapping[str, Tensor], report: Report = report_nothing
    ) -> Transferred:
        """The weights of a pruned network, from ``state``, a state of the whole one. ``pruned`` gets the kept slices.

        Raises UsageError where images are needed and there are none, or none that can be used.
        """
        pruned.load_state_dict(slice_state(state, self.graph, kept, self.model))
        whole = self.model
        if self._strategy.images:
            pruned, whole = copied(pruned).to(self._device), copied(whole)
            whole.load_state_dict(state)
            whole = whole.to(self._device)
        return self._run(self.name, pruned, whole, kept, self._many, report)

    # -- candidates

    def _probe(self, _: nn.Module, kept: Kept) -> nn.Module:
        pruned = self._candidate(kept)
        return pruned if self._quick(pruned, kept) else self._improve(pruned, kept, self._many)

    def _candidate(self, kept: Kept) -> nn.Module:
        return self.realize(self.model, kept).to(self._device)

    def _improve(self, pruned: nn.Module, kept: Kept, batches: Sequence[Any] | None) -> nn.Module:
        found = self._run(self._for_candidates, pruned, self._whole, kept, batches, report_nothing)
        pruned.load_state_dict(found.state)
        return pruned

    def _run(
        self, name: str, pruned: nn.Module, whole: nn.Module, kept: Kept, batches: Sequence[Any] | None, report: Report
    ) -> Transferred:
        teacher = copied(self.teacher).to(self._device) if self.teacher and TRANSFERS.find(name).trains else None
        return transfer(name, Transfer(
            pruned=pruned, original=whole, graph=self.graph, kept=kept, batches=batches, teacher=teacher,
            seconds=self.seconds, seed=self.seed, report=report,
        ))  # fmt: skip

    # -- what is looked at

    @property
    def _strategy(self) -> Strategy:
        return TRANSFERS.find(self.name)

    @property
    def _for_candidates(self) -> str:
        return self._strategy.for_candidates or self.name

    @property
    def _home(self) -> torch.device:
        return next((p.device for p in self.model.parameters()), torch.device("cpu"))

    @property
    def _device(self) -> torch.device:
        return self.images.device or self._home

    @cached_property
    def _whole(self) -> nn.Module:
        return self.model if self._home == self._device else copied(self.model).to(self._device)

    @cached_property
    def _quick(self) -> Quick:
        quick = TRANSFERS.find(self._for_candidates).quick
        assert quick is not None
        return quick(self._whole, self.graph, self._many or (), self.seed)

    @cached_property
    def _many(self) -> Sequence[Any] | None:
        return self.images.many() if self.images.many and self._strategy.images else None

    @cached_property
    def _few(self) -> Sequence[Any] | None:
        return self.images.few() if self.images.few and self._strategy.images else self._many
