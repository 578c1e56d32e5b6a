"""What a transfer strategy may look at and gives, and the strategies by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..errors import ConflictError, NeedsDataError, OptionError
from ..graph import ChannelGraph, Kept
from ..registry import Registry
from ..weight_transfer import Transferred

Report = Callable[[int, int, str], None]
"""Called with the pieces of work that are done, how many there are, and a name for the last one."""


def report_nothing(done: int, total: int, name: str) -> None:
    """Where nobody wants to know how far the work is."""


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """What a strategy may look at. ``pruned`` holds sliced weights of ``original``; neither is to be changed.
    ``batches``: tensors, or tuples that begin with one. ``teacher``: the network as it was with all its layers, where
    it isn't ``original``. ``seconds``: how long a strategy that trains may take; None is what is usual for it."""

    pruned: nn.Module
    original: nn.Module
    graph: ChannelGraph
    kept: Kept
    batches: Iterable[Any] | None = None
    teacher: nn.Module | None = None
    seconds: float | None = None
    seed: int = 0
    report: Report = report_nothing


Quick = Callable[[nn.Module, Kept], bool]
"""(sliced network, kept) -> whether its weights were improved in place; False, and nothing is changed, where only the
whole strategy can."""


@dataclass(frozen=True)
class Strategy:
    """``images``: on how many it looks unless more or fewer are given; 0 for one that needs none. ``for_candidates``:
    the name of that which the candidates of a search get in its place, empty for itself. ``quick``: from (original,
    graph, batches, seed) what comes near to it for each of many candidates. ``trains``: it takes what time it is
    given. ``least``: fewer images are refused."""

    run: Callable[[Transfer], Transferred]
    images: int
    for_candidates: str = ""
    trains: bool = False
    least: int = 1
    quick: Callable[[nn.Module, ChannelGraph, Sequence[Any], int], Quick] | None = None


TRANSFERS = Registry[Strategy]("transfer")


def transfer_strategy(
    name: str, images: int = 0, **facts: Any
) -> Callable[[Callable[[Transfer], Transferred]], Callable[[Transfer], Transferred]]:
    """Register what ``transfer`` does under this name. ``facts``: more fields of ``Strategy``."""

    def register(function: Callable[[Transfer], Transferred]) -> Callable[[Transfer], Transferred]:
        TRANSFERS.register(name)(Strategy(function, images, **facts))
        return function

    return register


def transfer(name: str, request: Transfer) -> Transferred:
    """Carry over weights by the strategy ``name``. Raises UsageError as ``require_images`` does, and for batches that
    the strategy can't use."""
    require_images(name, request.batches is not None)
    return TRANSFERS.find(name).run(request)


def chosen_transfer(name: str | None, seconds: float | None, usual: str) -> str:
    """The strategy of this name; without one, ``heal`` where ``seconds`` say how long it may take, else ``usual``.
    UsageError for a time that is none, and for a strategy that doesn't train."""
    if seconds is None:
        return name or usual
    if not 0 < seconds < math.inf:
        raise OptionError(f"--heal {seconds:g}: must be a time in seconds, more than 0")
    if name is not None and not TRANSFERS.find(name).trains:
        raise ConflictError(
            f"--heal is for --transfer heal, and --transfer {name} doesn't train: leave one of them out"
        )
    return name or "heal"


def require_images(name: str, there: bool) -> None:
    """Refuse an unknown strategy, and one that needs images where there are none, with UsageError."""
    if TRANSFERS.find(name).images and not there:
        raise NeedsDataError(f"--transfer {name} looks at images: add --data, or use --transfer slice")
