"""The Bayesian search for deep networks: one ratio for every stage, all of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..costs import Allowance, Counts, Step, grow, shrink
from ..errors import NotFiniteError, ResumeError
from .bench import Candidate
from .gaussian_process import Ratios, derived_seed, random_ratios, suggest_ratios
from .one_ratio import decided, ranked, steps
from .problem import Evaluation, Problem, Searching, SearchResult, objective_of
from .scores import Measurements, Task
from .stages import stages

ALL = "all stages"
"""What stands for a width in the records: a candidate changes them all."""


class StagedSearch(Searching):
    """For every stage (see ``stages``) a ratio r in [0, max_pruning]; together they maximise

        -(L + alpha * P + alpha / 4 * B)

    as width by width (``LayerwiseSearch``). Of a stage's groups the fraction r goes, those that rank lowest whichever
    width they are of. With a budget, every candidate is projected onto it before it is looked at: the kept counts times
    a common factor, or the removed ones; as all of them meet it, the loss alone is compared.

    Tried are 0 (without a budget), half of and all of ``max_pruning`` for all stages alike, ``init_points`` random and
    ``n_iter`` suggested points. There is no retraining; candidates have the weights that ``finish`` gives them.
    """

    def __init__(self, problem: Problem) -> None:
        problem.require_losses()
        self.stages = stages(problem.graph)
        self.ranking = ranked(problem)
        ordered = sorted(steps(problem, self.ranking), key=lambda s: s.score)
        self.steps = [[s for s in ordered if s.width in stage] for stage in self.stages]
        self.starts = (0.0, 0.5, 1.0) if problem.allowance.budget is None else (0.5, 1.0)
        super().__init__(problem, len(self.starts) + problem.settings.init_points + problem.settings.n_iter)
        self.whole = problem.costs.count({})
        self.measurements = Measurements(problem.bench, problem.evaluator, self.settings.stop_early)
        self.points: list[tuple[Ratios, float]] = []
        self.best: tuple[Evaluation, Counts] | None = None

    def run(self) -> SearchResult:
        names = [list(stage) for stage in self.stages]
        if self.problem.ledger.recorded("stages", stages=names) is None:
            self.problem.ledger.append("stages", {"stages": names})
        with self.listening():
            self._look_ahead()
            for step in range(1, self.total + 1):
                self._try(step)
        assert self.best is not None
        record, counts = self.best
        result = decided(self.problem, self.ranking, counts)
        return replace(result, evaluations=tuple(self.evaluations), best={ALL: record})

    def _look_ahead(self) -> None:
        """The first points don't depend on each other; each of those that are suggested does on all before it."""
        if self.problem.bench.jobs == 1:
            return
        steps = range(1 + self.problem.ledger.left // 2, 1 + len(self.starts) + self.settings.init_points)
        found = [self._counts(self._proposed(step)) for step in steps]
        self.problem.bench.ahead([self._candidate(counts) for n, counts in enumerate(found) if counts not in found[:n]])

    def _try(self, step: int) -> None:
        ratios = self._ratios(step)
        counts = self._counts(ratios)
        record = self.problem.evaluation(ALL, step, lambda: self._evaluation(step, counts))
        self.measurements.known[self._task(counts).key] = (record.loss, record.accuracy)
        self.points.append((ratios, record.objective))
        if record.is_best:
            self.best = record, counts
        self.noted(record)

    # -- what is tried

    def _ratios(self, step: int) -> Ratios:
        entry = self.problem.ledger.recorded("candidate", step=step)
        if entry is None:
            ratios = self._proposed(step)
            self.problem.ledger.append("candidate", {"step": step, "ratios": ratios})
            return ratios
        found, upper = entry.get("ratios"), self.settings.max_pruning
        known = [r for r in found if isinstance(r, float) and 0 <= r <= upper] if isinstance(found, list) else []
        if len(known) != len(self.stages):
            raise ResumeError(f"the search ledger has no ratios of candidate {step}; start anew without --resume")
        return tuple(known)

    def _proposed(self, step: int) -> Ratios:
        upper, seed = self.settings.max_pruning, derived_seed(self.settings.seed, ALL, step)
        if step <= len(self.starts):
            return (upper * self.starts[step - 1],) * len(self.stages)
        if step <= len(self.starts) + self.settings.init_points:
            return random_ratios(len(self.stages), upper, seed)
        return suggest_ratios(self.points, upper, seed)

    def _counts(self, ratios: Ratios) -> Counts:
        """On the budget, if there is one."""
        allowance = self.problem.allowance
        lowered: Counts = {}
        for stage, ordered, ratio in zip(self.stages, self.steps, ratios, strict=True):
            lowered |= lowest_gone(allowance, stage, ordered, ratio)
        counts = {name: lowered[name] for name in allowance.sizes}
        if allowance.budget is None:
            return counts
        return (grow if allowance.meets(counts) else shrink)(allowance, counts)

    # -- how it does

    def _evaluation(self, step: int, counts: Counts) -> Evaluation:
        task = self._task(counts)
        cached = task.key in self.measurements.known
        loss, accuracy = self.measurements.score(task, self._task(self.best[1]) if self.best else None)
        groups, kept = sum(self.problem.allowance.sizes.values()), sum(counts.values())
        others = [value for _, value in self.points]
        if loss is None and not others:
            raise NotFiniteError(
                f"the loss is not finite with {groups - kept} of {groups} groups of channels removed; "
                "check weights and data"
            )
        objective = objective_of(loss, task.price, others)
        return self.problem.record(
            ALL, step, groups, kept, counts, (loss, accuracy), objective, others, cached=cached,
            seconds=round(self.measurements.seconds, 3), done=step, total=self.total,
        )  # fmt: skip

    def _task(self, counts: Counts) -> Task:
        size = self.problem.costs.count(counts).relative_to(self.whole)
        price = self.settings.price(size) if self.problem.allowance.budget is None else 0.0
        return Task(tuple(sorted(counts.items())), lambda: self._candidate(counts), price)

    def _candidate(self, counts: Counts) -> Candidate:
        kept = {name: self.ranking.keep(name, n) for name, n in counts.items()}
        return Candidate(kept, "finish", "loss")


def lowest_gone(allowance: Allowance, stage: Sequence[str], ordered: Sequence[Step], ratio: float) -> Counts:
    """The counts of a stage's widths when steps are taken in order until the fraction ``ratio`` of all its groups is
    gone: as near to it as steps allow, of two as near the one with more groups."""
    counts = {name: allowance.sizes[name] for name in stage}
    wanted, gone = ratio * sum(counts.values()), 0
    for step in ordered:
        level = min(counts[step.width], allowance.levels[step.width][step.level])
        more = gone + counts[step.width] - level
        if more - wanted >= wanted - gone:
            break
        counts[step.width], gone = level, more
    return counts
