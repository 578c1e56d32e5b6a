"""The ranking: in which order the groups of every width go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ..errors import NotFiniteError, PlanError, UnknownNameError
from ..graph import ChannelGraph, IntArray, Width
from ..run import values_in
from .registry import (
    _ROLES,
    METRICS,
    Batch,
    Evidence,
    FloatArray,
    Metric,
)
from .weights import random

FIRST = ("smallest", "largest", "random")


@dataclass(frozen=True)
class Ranking:
    """Per width ``scores`` (one per group) and ``order``: the groups in the order in which they go.

    The order is ascending by score, ties by index. With blocks, it takes the least useful group of every block,
    then the second least of every block and so on, so that a prefix of whole rounds leaves equal blocks.
    """

    metric: str
    scores: Mapping[str, FloatArray]
    order: Mapping[str, IntArray]
    steps: Mapping[str, int]
    notes: tuple[str, ...] = ()

    def keep(self, width: Width | str, n: int) -> tuple[int, ...]:
        """The indices of the ``n`` most useful groups, increasing, equally many per block (or as they share).

        Raises ``PlanError`` when ``n`` is not a positive multiple of the width's step or too large.
        """
        name = width if isinstance(width, str) else width.name
        order, step = self.order[name], self.steps[name]
        if not 0 < n <= len(order) or n % step:
            rule = f"a multiple of {step} (equal blocks), " if step > 1 else ""
            raise PlanError(f"width {name!r} can't keep {n} channels: it must be {rule}from {step} to {len(order)}")
        return tuple(sorted(order[len(order) - n :].tolist()))


def rank(
    model: nn.Module,
    graph: ChannelGraph,
    metric: str = "l1",
    batches: Iterable[Batch] | None = None,
    seed: int = 0,
    slots: str = "all",
    first: str | None = None,
) -> Ranking:
    """Score and order the groups of all widths. The model is not changed; the same input gives the same ranking.

    ``batches``: (images, labels) pairs, for metrics that look at data. ``first``: which go first, those with the
    "smallest" or the "largest" values of the metric, or "random" ones; default: the metric's own rule. Raises
    ``UsageError`` for an unknown metric, ``slots`` or ``first``, ``CheckpointError`` when a weight is not finite.
    """
    function, sign = _with_sign(metric, first)
    if slots not in _ROLES:
        raise UnknownNameError(f"unknown slots {slots!r}, known are {', '.join(_ROLES)}")
    apart = graph.apart or graph
    evidence = Evidence(model, apart, slots, None if batches is None else list(batches), seed)
    ranked = {u.slot.parameter for w in graph.widths for u in w.uses}
    for name, parameter in ((n, values_in(p)) for n, p in evidence.parameters.items()):
        if torch.isfinite(parameter.sum()) or torch.isfinite(parameter).all():
            continue
        if name in ranked or parameter.isnan().any():  # elsewhere infinities may be meant: a mask's
            raise NotFiniteError(f"{name} holds NaN or infinite values; take a checkpoint from before training broke")
    # float32 makes ties of what only rounding errors tell apart
    found = function(evidence)
    scores = {w.name: sign * found[w.name].float().cpu().double().numpy() for w in apart.widths}
    if graph.apart is not None:
        scores = {name: np.concatenate([scores[m] for m, _ in members]) for name, members in graph.parts.items()}
    for name, values in scores.items():
        if not np.isfinite(values).all():
            raise NotFiniteError(f"metric {metric} gives width {name!r} a score that is not finite; check the data")
    order = {w.name: _removal_order(scores[w.name], w) for w in graph.widths}
    steps = {w.name: w.step for w in graph.widths}
    return Ranking(metric, scores, order, steps, tuple(evidence.notes))


def _removal_order(scores: FloatArray, width: Width) -> IntArray:
    ascending = np.argsort(scores, kind="stable")
    turn = np.empty(width.size, dtype=np.int64)
    for block, share in enumerate(width.share_of):
        members = ascending[width.block_of[ascending] == block]
        turn[members] = np.arange(members.size) // share
    return np.lexsort((np.arange(width.size), scores, turn))


def _with_sign(name: str, first: str | None) -> tuple[Metric, int]:
    """A metric, and what makes a score of its value: the larger the more useful."""
    function = METRICS.find(name)
    if first not in (None, *FIRST):
        raise UnknownNameError(f"unknown ranking {first!r}, known are {', '.join(FIRST)}")
    if first == "random":
        return random, 1
    return function, -1 if first == "largest" or (first is None and METRICS.fact(name, "largest_first")) else 1


