"""Candidates as a whole, to set right what probes of single widths can't tell.

Damages of several widths don't simply add up: the layers behind an early width make up for more of what it lost than
those behind a late one, and widths of one stage lose the same things. So it is tried out how much the damages of each
stage should count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from ..costs import Counts
from ..metrics import Ranking
from .bayesian_staged import ALL
from .bench import Candidate, Found
from .damage import Difference
from .problem import Evaluation, Problem
from .stages import stages

FACTORS = (2.0, 0.5)
"""By which the damages of a stage are multiplied; the second is tried where the first does no good."""
_WORST = -1e300
ERRORS = 2.0

Weights = Mapping[str, float]
Record = Callable[[Evaluation], None]


class Balance:
    """``allocate``: the counts for a factor on each width's damage. ``done`` evaluations of ``total`` come before.

    A candidate is better than the best one so far when its damage is less by more than two standard errors of the
    difference over the same images; what is better on so few images by less is rarely better on others.
    """

    def __init__(
        self, problem: Problem, ranking: Ranking, allocate: Callable[[Weights], Counts], done: int, total: int,
        record: Record,
    ) -> None:  # fmt: skip
        self.problem, self.ranking = problem, ranking
        self.allocate, self.done, self.total, self.record = allocate, done, total, record
        self.stages = stages(problem.graph)
        self.set: set[int] = set()  # stages whose factor is known
        self.step = 0
        self.known: dict[tuple[int, ...], Evaluation] = {}
        self.best: Counts = {}
        self.damages: dict[tuple[int, ...], Tensor] = {}

    def run(self) -> Counts:
        """The counts of the candidate that is nearest to the whole network."""
        weights: Weights = dict.fromkeys(self.problem.allowance.sizes, 1.0)
        counts = self.allocate(weights)
        if len(self.stages) < 2:
            return counts
        tries = [(number, factor) for number in range(len(self.stages)) for factor in FACTORS]
        self._look_ahead(weights, [(0, 1.0), *tries])
        self._better(counts, 1)
        for place, (number, factor) in enumerate(tries):
            if number in self.set:
                continue
            self._look_ahead(weights, tries[place:])
            tried, found = self._tried(weights, number, factor)
            if self._better(found, 2 + place):
                weights, counts = tried, found
                self.set.add(number)
        return counts

    def _tried(self, weights: Weights, number: int, factor: float) -> tuple[Weights, Counts]:
        tried = {name: w * factor if name in self.stages[number] else w for name, w in weights.items()}
        return tried, self.allocate(tried)

    def _look_ahead(self, weights: Weights, tries: Sequence[tuple[int, float]]) -> None:
        """Have as many candidates judged at once as there are jobs: those that come next if none of them is better."""
        if self.problem.bench.jobs == 1 or self.problem.ledger.left:
            return
        ahead: dict[tuple[int, ...], Candidate] = {}
        for number, factor in tries:
            counts = self._tried(weights, number, factor)[1]
            key = tuple(counts.values())
            if key not in self.known:
                ahead[key] = self._candidate(counts)
            if len(ahead) == self.problem.bench.jobs:
                break
        self.problem.bench.ahead(list(ahead.values()))

    def _better(self, counts: Counts, done: int) -> bool:
        key = tuple(counts.values())
        if key in self.known:
            return False
        self.step += 1
        found = self.problem.evaluation(ALL, self.step, lambda: self._measured(counts, done))
        self.known[key] = found
        if found.is_best:
            self.best = counts
        self.record(found)
        return found.is_best

    def _measured(self, counts: Counts, done: int) -> Evaluation:
        judged = self._judged(counts)
        found: Difference = judged.value
        loss = found.damage if found.damage != float("inf") else None
        others = [e.objective for e in self.known.values()]
        groups, kept = sum(self.problem.allowance.sizes.values()), sum(counts.values())
        return self.problem.record(
            ALL, self.step, groups, kept, counts, (loss, found.agreement), _WORST if loss is None else -loss, others,
            is_best=not self.best or self._clearly_less(found.each), seconds=round(judged.seconds, 3),
            done=self.done + done, total=self.total,
        )  # fmt: skip

    def _clearly_less(self, damages: Tensor) -> bool:
        best = tuple(self.best.values())
        if best not in self.damages:  # after a replay
            self._judged(self.best)
        less = self.damages[best] - damages
        if not bool(less.isfinite().all()):
            return bool(damages.isfinite().all())
        return bool(less.mean() > ERRORS * less.std(correction=0) / math.sqrt(len(less)))

    def _judged(self, counts: Counts) -> Found:
        judged = self.problem.bench.result(self._candidate(counts))
        self.damages = {k: d for k, d in self.damages.items() if k == tuple(self.best.values())}
        self.damages[tuple(counts.values())] = judged.value.each
        return judged

    def _candidate(self, counts: Counts) -> Candidate:
        kept = {name: self.ranking.keep(name, n) for name, n in counts.items()}
        return Candidate(kept, "finish", "outputs" if self.problem.evaluator.scored is None else "score")


def attempts(problem: Problem) -> int:
    """How many evaluations there are at most."""
    found = len(stages(problem.graph))
    return 1 + len(FACTORS) * found if found > 1 else 0
