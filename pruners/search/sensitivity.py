"""The fast search for a budget: probe every width once by itself, then spend the budget where it hurts least."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

from ..costs import Allowance, Counts, give_back
from ..errors import NeedsDataError
from ..metrics import Ranking
from .bench import Candidate
from .damage import PROBED, Curve, Difference, curve_through
from .one_ratio import decided, ranked, require_budget
from .problem import Evaluation, Problem, Searching, SearchResult, search_strategy
from .stage_balance import Balance, attempts

_STEPS = 64
"""Of a width that may keep more counts than this, several are skipped at a time."""
_FITS = 18.0
"""So many probes take as long as one whole candidate that is fitted: 20 of a ResNet-20, 17 of a ResNet-56."""
_AHEAD = (1, 2, 4, 8, 16)
"""Steps that are looked at together where one may save nothing by itself, as with time."""


@search_strategy("sensitivity")
def sensitivity(problem: Problem) -> SearchResult:
    """One probe for each of some counts of every width, the others whole: how far does the output move?

    The damage of a width is then a convex curve over what is removed from it. From the whole network down, that step
    is taken which does least damage per unit of the budget saved, until the budget is met; single channels that still
    fit are given back. Damages of several widths are taken to add up, but for a factor on those of each stage, which is
    found on whole candidates (``Balance``). Needs images, but no labels. A measure of the user's own judges the whole
    candidates, and the probes too where there are no images.
    """
    require_budget(problem)
    problem.allowance.require_reachable()
    ranking = ranked(problem)
    probes = Probes(problem, ranking)
    curves = probes.curves()

    def allocate(weights: Mapping[str, float]) -> Counts:
        return marginal_counts(problem.allowance, {name: c.times(weights[name]) for name, c in curves.items()})

    counts = probes.balanced(allocate)
    best = {e.width: e for e in probes.evaluations if e.kept == counts.get(e.width)}
    return replace(decided(problem, ranking, counts), evaluations=tuple(probes.evaluations), best=best)


class Probes(Searching):
    """The probes of all widths, in the order of the graph; an interrupted pass goes on where it was."""

    def __init__(self, problem: Problem, ranking: Ranking) -> None:
        if problem.evaluator.probe is None or not (problem.batches or problem.evaluator.scored):
            raise NeedsDataError(
                "--search sensitivity looks at images; give --data, or take --search uniform or global"
            )
        self.ranking = ranking
        self.probed = {name: probed_counts(allowed) for name, allowed in problem.allowance.levels.items()}
        self.number = sum(len(counts) for counts in self.probed.values())
        super().__init__(problem, self.number + attempts(problem))

    def curves(self) -> dict[str, Curve]:
        found = {}
        wanted = [self._candidate(name, kept) for name, counts in self.probed.items() for kept in counts]
        fitted = self.problem.evaluator.finish is not self.problem.evaluator.realize
        whole = self.total - self.number, _FITS if fitted else 1.0
        self.problem.watcher.on_start(((self.number, 1.0), whole))
        with self.listening():
            self.problem.bench.ahead(wanted[self.problem.ledger.left :])
            for name, counts in self.probed.items():
                size = self.problem.allowance.sizes[name]
                records = [self._probe(name, step, kept) for step, kept in enumerate(counts, 1)]
                points = [(size - r.kept, float("inf") if r.loss is None else r.loss) for r in records]
                found[name] = curve_through(points)
        return found

    def balanced(self, allocate: Callable[[Mapping[str, float]], Counts]) -> Counts:
        """The counts that do best together, of those that factors on the damages of stages lead to."""
        balance = Balance(self.problem, self.ranking, allocate, self.number, self.total, self.noted)
        with self.listening():
            return balance.run()

    def _probe(self, name: str, step: int, kept: int) -> Evaluation:
        record = self.problem.evaluation(name, step, lambda: self._measured(name, step, kept))
        self.noted(record)
        return record

    def _candidate(self, name: str, kept: int) -> Candidate:
        asked: Literal["outputs", "score"] = "outputs" if self.problem.batches else "score"
        return Candidate({name: self.ranking.keep(name, kept)}, "probe", asked, name)

    def _measured(self, name: str, step: int, kept: int) -> Evaluation:
        judged = self.problem.bench.result(self._candidate(name, kept))
        found: Difference = judged.value
        known = [e.objective for e in self.evaluations if e.width == name]
        finite = found.damage if found.damage != float("inf") else None
        objective = min([0.0, *known]) - 1.0 if finite is None else -finite
        return self.problem.record(
            name, step, self.problem.allowance.sizes[name], kept, {name: kept}, (finite, found.agreement), objective,
            known, is_best=False, seconds=round(judged.seconds, 3), done=len(self.evaluations) + 1, total=self.total,
            score=None if self.problem.batches else self.problem.score_of(finite),
        )  # fmt: skip


def probed_counts(allowed: tuple[int, ...]) -> tuple[int, ...]:
    """The counts that are probed of those a width may keep, from the largest down; its size itself is not."""
    smaller = allowed[:-1]
    if not smaller:
        return ()
    wanted = (allowed[-1] * fraction for fraction in PROBED)
    near = {smaller[min(bisect_left(smaller, n), len(smaller) - 1)] for n in wanted}
    return tuple(sorted({*near, smaller[0]}, reverse=True))


def marginal_counts(allowance: Allowance, curves: dict[str, Curve]) -> Counts:
    """From the whole network down, always the step with the least damage per unit of the budget, until it is met.

    What a step saves only gets less when other widths shrink, so a rate that is still the least when it is worked out
    anew is the least of all.
    """
    allowance.require_reachable()
    counts = dict(allowance.sizes)
    ladders = {name: _ladder(allowed) for name, allowed in allowance.levels.items()}

    ahead = _AHEAD if allowance.uneven else _AHEAD[:1]

    def entry(name: str) -> tuple[float, int, str, int] | None:
        rung = bisect_left(ladders[name], counts[name])
        lower = [ladders[name][rung - n] for n in ahead if n <= rung]
        rates = [(_rate(allowance, curves[name], counts, name, n), -n) for n in lower]
        if not rates:
            return None
        rate, count = min(rates)
        return rate, position[name], name, -count

    position = {name: i for i, name in enumerate(counts)}
    queue = [e for e in map(entry, counts) if e is not None]
    heapq.heapify(queue)
    while not allowance.meets(counts):
        name = heapq.heappop(queue)[2]
        now = entry(name)
        if now is None:
            continue
        if queue and now > queue[0]:
            heapq.heappush(queue, now)
            continue
        counts[name] = now[3]
        following = entry(name)
        if following is not None:
            heapq.heappush(queue, following)
    return give_back(
        allowance, counts, allowance.sizes, lambda name, n: -_relief(curves[name], allowance, name, n), floors=counts
    )


def _ladder(allowed: tuple[int, ...]) -> tuple[int, ...]:
    """The allowed counts that steps lead to: all, or every so many of a wide width."""
    every = -(-len(allowed) // _STEPS)
    return tuple(sorted({*allowed[::-every], allowed[0]}))


def _rate(allowance: Allowance, curve: Curve, counts: Counts, name: str, lower: int) -> float:
    """Damage per unit of the budget that a step saves."""
    size = allowance.sizes[name]
    damage = curve.at(size - lower) - curve.at(size - counts[name])
    saved = allowance.fraction(counts) - allowance.fraction({**counts, name: lower})
    return damage / saved if saved > 0 else float("inf")


def _relief(curve: Curve, allowance: Allowance, name: str, n: int) -> float:
    """How much damage the next group that comes back undoes."""
    size = allowance.sizes[name]
    return curve.at(size - n) - curve.at(max(size - n - 1, 0))
