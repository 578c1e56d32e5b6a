"""Budgets, and how many groups each width may keep so that one is met.

All counting is exact (``costs.CostModel``; time is predicted, ``latency.LatencyModel``), and costs only grow with the
counts, so every projection is a bisection that ends at or just under the budget; single channels that still fit are
then given back.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ..budgets import MEANING, Budget, Limits
from ..errors import BudgetError
from ..graph import ChannelGraph, Width
from .model import CostModel

Counts = dict[str, int]
_CLOSE = 0.01  # of a budget may be left
_EXCHANGED = 4  # steps of one width
Share = Callable[[Mapping[str, int]], float]


class Allowance:
    """One network's widths, the counts each of them may keep, and a budget to meet (or none).

    ``time``: what of the whole network's time remains with some counts; a budget of ``latency`` is of that.
    ``ratios``: the fraction to remove of some widths, where it is another than the budget's ``ratio``.
    """

    def __init__(
        self, graph: ChannelGraph, costs: CostModel, limits: Limits, budget: Budget | None, time: Share | None = None,
        ratios: Mapping[str, float] | None = None,
    ) -> None:  # fmt: skip
        if budget is not None and budget.kind == "latency" and time is None:
            raise BudgetError("a budget of latency needs measured times: see pruners.latency")
        self._time, self.ratios = time, ratios or {}
        self.costs = costs
        self.limits = limits
        self.budget = budget
        self.sizes: Counts = {w.name: w.size for w in graph.widths}
        self.levels = {w.name: levels(w, limits) for w in graph.widths}
        self._whole = costs.count({})

    @property
    def uneven(self) -> bool:
        """Whether a step may save nothing though several together do."""
        return self.budget is not None and self.budget.kind == "latency"

    def fraction(self, counts: Mapping[str, int]) -> float:
        """What of the budgeted quantity remains with these counts."""
        if self.budget is None or self.budget.kind == "ratio":
            return sum(counts.values()) / sum(self.sizes.values())
        if self.budget.kind == "latency":
            assert self._time is not None
            return self._time(counts)
        return self.costs.count(counts).relative_to(self._whole)[self.budget.kind]

    def meets(self, counts: Mapping[str, int]) -> bool:
        return self.budget is None or self.fraction(counts) <= self.budget.limit + 1e-12

    def nearest(self, name: str, count: float) -> int:
        """The allowed count next to ``count``; of two as near the larger."""
        allowed = self.levels[name]
        i = min(bisect_left(allowed, count), len(allowed) - 1)
        return min(allowed[i], allowed[max(i - 1, 0)], key=lambda level: abs(level - count))

    def below(self, name: str, count: float) -> int:
        """The largest allowed count up to ``count``, or the smallest there is."""
        allowed = self.levels[name]
        return allowed[max(bisect_right(allowed, count + 1e-9) - 1, 0)]

    def smallest(self) -> Counts:
        return {name: allowed[0] for name, allowed in self.levels.items()}

    def require_reachable(self) -> None:
        """Raise ``BudgetError`` when even the smallest widths are over the budget."""
        left = self.fraction(self.smallest())
        if self.budget is not None and not self.meets(self.smallest()):
            least = 1 - left if self.budget.kind == "ratio" else left
            word = "at most" if self.budget.kind == "ratio" else "at least"
            bound = math.floor(1000 * least) / 1000 if word == "at most" else math.ceil(1000 * least) / 1000
            raise BudgetError(
                f"--{self.budget.kind} {self.budget.value:g}: can't be reached, with every width at its smallest "
                f"{100 * left:.1f} % {MEANING[self.budget.kind][1]} remain; ask for {word} {bound:g}"
            )


def levels(width: Width, limits: Limits) -> tuple[int, ...]:
    """The counts a width may keep, increasing, its size last."""
    step = width.step * _steps(width, limits.round_to)
    fewest = limits.min_channels if not width.shares else -(-limits.min_channels // min(width.shares)) * width.step
    floor = max(fewest, math.ceil(limits.min_fraction * width.size - 1e-9))
    return (*range(step * max(1, -(-floor // step)), width.size, step), width.size)


def _steps(width: Width, round_to: int) -> int:
    """How many steps at a time make a multiple: of a width that counts several, each by itself."""
    apart = [share * n for share, n in zip(width.shares, width.places, strict=True)]
    numbers = apart or [width.step]
    return math.lcm(*(round_to // math.gcd(n, round_to) for n in numbers))


def uniform_counts(allowance: Allowance) -> Counts:
    """One ratio for all widths, but for those that have their own. ``ratio``: ``round(size * ratio)`` channels go, then
    the nearest allowed count.
    ``macs`` and ``params``: the largest common keep ratio that meets the budget."""
    budget = allowance.budget
    if budget is not None and budget.kind == "ratio":
        ratios = {name: allowance.ratios.get(name, budget.value) for name in allowance.sizes}
        removed = {name: round(size * ratios[name]) for name, size in allowance.sizes.items()}
        return {name: allowance.nearest(name, size - removed[name]) for name, size in allowance.sizes.items()}
    return shrink(allowance, allowance.sizes)


def shrink(allowance: Allowance, base: Mapping[str, int]) -> Counts:
    """The counts ``base`` times the largest common factor in (0, 1] that meets the budget."""
    allowance.require_reachable()

    def scaled(factor: float) -> Counts:
        return {name: allowance.below(name, factor * n) for name, n in base.items()}

    counts = _largest(scaled, allowance.meets)
    return give_back(allowance, counts, base, lambda name, n: n / base[name])


def grow(allowance: Allowance, base: Mapping[str, int]) -> Counts:
    """What ``base`` removes, times the smallest common factor in [0, 1] that still meets the budget.

    ``base`` must meet it.
    """
    sizes = allowance.sizes

    def scaled(factor: float) -> Counts:
        return {name: max(n, allowance.below(name, n + factor * (sizes[name] - n))) for name, n in base.items()}

    counts = _largest(scaled, allowance.meets)
    regained = {name: max(sizes[name] - n, 1) for name, n in base.items()}
    return give_back(allowance, counts, sizes, lambda name, n: (n - base[name]) / regained[name], floors=base)


def _largest(scaled: Callable[[float], Counts], meets: Callable[[Counts], bool]) -> Counts:
    if meets(scaled(1.0)):
        return scaled(1.0)
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if meets(scaled(middle)) else (low, middle)
    return scaled(low)


def give_back(
    allowance: Allowance,
    counts: Counts,
    caps: Mapping[str, int],
    need: Callable[[str, int], float],
    floors: Mapping[str, int] | None = None,
) -> Counts:
    """Raise widths by single steps while the budget is met, the one with the smallest ``need(name, count)`` first.

    Where steps are so coarse that more than 1 % of a budget of MACs or parameters would be left, one width is lowered
    by a few steps, not below ``floors``, if others come closer to the budget in exchange.
    """
    counts = _raised(allowance, counts, caps, need)
    while _left(allowance, counts) > _CLOSE:
        lower = [{**counts, name: n} for name in counts for n in _below(allowance, counts, name, floors or {})]
        tried = [_raised(allowance, c, {**caps, _lowered(counts, c): c[_lowered(counts, c)]}, need) for c in lower]
        best = min(tried, key=lambda c: _left(allowance, c), default=counts)
        if _left(allowance, best) >= _left(allowance, counts):
            break
        counts = _raised(allowance, best, caps, need)
    return counts


def _left(allowance: Allowance, counts: Counts) -> float:
    """The share of a budget of MACs or parameters that is not used."""
    budget = allowance.budget
    if budget is None or budget.kind not in ("macs", "params") or counts == allowance.sizes:
        return 0.0
    return 1 - allowance.fraction(counts) / budget.limit


def _below(allowance: Allowance, counts: Counts, name: str, floors: Mapping[str, int]) -> tuple[int, ...]:
    allowed = allowance.levels[name]
    place = bisect_left(allowed, counts[name])
    return tuple(n for n in allowed[max(place - _EXCHANGED, 0) : place] if n >= floors.get(name, 0))


def _lowered(counts: Counts, lower: Counts) -> str:
    return next(name for name, n in counts.items() if lower[name] < n)


def _raised(allowance: Allowance, counts: Counts, caps: Mapping[str, int], need: Callable[[str, int], float]) -> Counts:
    """Single steps up; one that doesn't fit never fits later, so each width drops out once."""
    counts = dict(counts)
    position = {name: i for i, name in enumerate(counts)}
    queue = [(need(name, n), position[name], name) for name, n in counts.items()]
    heapq.heapify(queue)
    while queue:
        _, _, name = heapq.heappop(queue)
        allowed = allowance.levels[name]
        i = bisect_right(allowed, counts[name])
        if i < len(allowed) and allowed[i] <= caps[name] and allowance.meets({**counts, name: allowed[i]}):
            counts[name] = allowed[i]
            heapq.heappush(queue, (need(name, allowed[i]), position[name], name))
    return counts


@dataclass(frozen=True)
class Step:
    """Lowering one width from level ``level + 1`` to ``level``, and the mean score of the groups that go."""

    score: float
    width: str
    level: int


def global_counts(allowance: Allowance, steps: Iterable[Step]) -> Counts:
    """Take the cheapest steps of all widths, in ascending order of score, until the budget is met."""
    allowance.require_reachable()
    ordered = sorted(steps, key=lambda s: s.score)

    def cut(n: int) -> Counts:
        counts = dict(allowance.sizes)
        for step in ordered[:n]:
            counts[step.width] = min(counts[step.width], allowance.levels[step.width][step.level])
        return counts

    low, high = 0, len(ordered)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if allowance.meets(cut(middle)) else (middle + 1, high)
    worth = {(s.width, s.level): s.score for s in ordered}

    def need(name: str, n: int) -> float:
        return -worth.get((name, allowance.levels[name].index(n)), 0.0)

    return give_back(allowance, cut(low), allowance.sizes, need)
