"""Candidates as a whole, to set right what probes of single widths can't tell.

Damages of several widths don't simply add up: the layers behind an early width make up for more of what it lost than
those behind a late one, and widths of one stage lose the same things. So it is tried out how much the damages of each
stage should count.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from torch import Tensor, nn

from ..costs import Counts
from ..metrics import Ranking
from .bayesian_staged import ALL, joint_record
from .damage import Difference
from .problem import Evaluation, Problem
from .stages import Stage, stages

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
        self, problem: Problem, ranking: Ranking, compare: Callable[[nn.Module], Difference],
        allocate: Callable[[Weights], Counts], done: int, total: int, record: Record,
    ) -> None:  # fmt: skip
        self.problem, self.ranking, self.compare = problem, ranking, compare
        self.allocate, self.done, self.total, self.record = allocate, done, total, record
        realize = problem.candidates.finish or problem.candidates.realize
        assert realize is not None
        self.realize = realize
        self.stages = stages(problem.graph)
        self.step = 0
        self.known: dict[tuple[int, ...], Evaluation] = {}
        self.best: Counts = {}
        self.damages: dict[tuple[int, ...], Tensor] = {}

    def run(self) -> Counts:
        """The counts of the candidate that is nearest to the whole network."""
        weights = dict.fromkeys(self.problem.allowance.sizes, 1.0)
        counts = self.allocate(weights)
        if len(self.stages) > 1:
            self._better(counts, 1)
            for number, stage in enumerate(self.stages):
                for attempt, tried in enumerate(_tried(weights, stage), 1):
                    found = self.allocate(tried)
                    if self._better(found, 1 + len(FACTORS) * number + attempt):
                        weights, counts = tried, found
                        break
        return counts

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
        started = time.perf_counter()
        found = self._difference(counts)
        loss = found.damage if found.damage != float("inf") else None
        others = [e.objective for e in self.known.values()]
        record = joint_record(
            self.problem, self.step, counts, (loss, found.agreement), _WORST if loss is None else -loss, others,
            cached=False, since=started, done=self.done + done, total=self.total,
        )  # fmt: skip
        return replace(record, is_best=not self.best or self._clearly_less(found.each))

    def _clearly_less(self, damages: Tensor) -> bool:
        best = tuple(self.best.values())
        if best not in self.damages:  # after a replay
            self._difference(self.best)
        less = self.damages[best] - damages
        if not bool(less.isfinite().all()):
            return bool(damages.isfinite().all())
        return bool(less.mean() > ERRORS * less.std(correction=0) / math.sqrt(len(less)))

    def _difference(self, counts: Counts) -> Difference:
        kept = {name: self.ranking.keep(name, n) for name, n in counts.items()}
        found = self.problem.cache.evaluate("", lambda: self.realize(self.problem.model, kept), self.compare)
        self.damages = {k: d for k, d in self.damages.items() if k == tuple(self.best.values())}
        self.damages[tuple(counts.values())] = found.each
        return found


def attempts(problem: Problem) -> int:
    """How many evaluations there are at most."""
    found = len(stages(problem.graph))
    return 1 + len(FACTORS) * found if found > 1 else 0


def _tried(weights: Weights, stage: Stage) -> Iterator[dict[str, float]]:
    for factor in FACTORS:
        yield {name: w * factor if name in stage else w for name, w in weights.items()}
