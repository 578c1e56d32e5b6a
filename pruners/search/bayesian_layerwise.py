"""The layer-wise Bayesian search: one width at a time, each with its own trade-off of loss against size.

The search keeps the *whole* network and counts channels in its numbering throughout. A candidate is the whole network
sliced once by all decisions so far and the one under test; after retraining, the small weights are scattered back
into the whole state. So no graph is ever re-numbered, decisions stay plain index lists, and the state of a search is
its ledger plus one file of whole-network weights. Removed channels keep stale values: a budget met too well is
relaxed at the end by bringing channels back, and they come back with the weights they had.

Every step is a pure function of (settings, seed, network, events so far): random ratios and suggestions are seeded by
(seed, width, step), retraining by (seed, width). Resuming replays the events and goes on.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from typing import Any

from ..costs import Counts, grow, shrink
from ..errors import Interrupted, NotFiniteError, ResumeError
from ..graph import Width
from ..metrics import rank
from ..plan import sha256_of_state
from ..run import copied
from ..slicing import zero_out
from .bench import Candidate
from .checkpoints import Checkpoints, seeded
from .gaussian_process import derived_seed, random_ratios, suggest_ratios
from .problem import Evaluation, Problem, Searching, SearchResult, objective_of
from .scatter import State, scatter, zero_removed
from .scores import Measurements, Task
from .stages import in_run_order


class LayerwiseSearch(Searching):
    """For every width the ratio r in [0, max_pruning] that maximises

        -(L + alpha * P + alpha / 4 * B)

    with the candidate's held-out loss L and its parameters P and bits B as fractions of the whole network's, earlier
    decisions kept. Tried are r = 0, half of and all of ``max_pruning``, ``init_points`` random and ``n_iter``
    suggested ratios; ``round(size * r)`` groups go. After a width that lost the fraction ``considerable`` or more
    the network is retrained for ``retrain_epochs``.

    With a budget, the result is projected onto it at the end: the kept counts times a common factor when it is over,
    the removed counts times a common factor when it is under.
    """

    def __init__(self, problem: Problem) -> None:
        problem.require_losses()
        self.retrain = problem.retrain
        self.widths = in_direction(problem)
        self.per_width = 3 + problem.settings.init_points + problem.settings.n_iter
        super().__init__(problem, self.per_width * len(self.widths))
        self.whole = problem.costs.count({})
        self.model = copied(problem.model)
        self.orders: dict[str, list[int]] = {}
        self.counts: Counts = {}
        self.best: dict[str, Evaluation] = {}
        self.measurements = Measurements(problem.bench, problem.evaluator, self.settings.stop_early)
        self.retrains = 0
        self.checkpoints = Checkpoints(problem.ledger.path)
        self.weights_to_load: str | None = None  # digest
        self.notes: list[str] = []

    def run(self) -> SearchResult:
        with self.listening():
            for position, width in enumerate(self.widths):
                self._decide(position, width)
        counts = self._on_budget()
        kept = {w.name: self._kept(w.name, counts[w.name]) for w in self.problem.graph.widths}
        self._load_weights()
        state = {n: t.clone() for n, t in self.model.state_dict().items()} if self.retrains else None
        after = self.problem.costs.predict(kept)
        notes = tuple(dict.fromkeys(self.notes))
        return SearchResult(kept, self.whole, after, tuple(self.evaluations), self.best, state, notes)

    # -- one width

    def _decide(self, position: int, width: Width) -> None:
        self.measurements.keep_only(self._key(width.name, width.size))
        self._try_ratios(position, width)
        name, size, kept = width.name, width.size, self.best[width.name].kept
        entry = self.problem.ledger.recorded("decision", width=name, size=size, kept=kept)
        if entry is None:
            entry = {"width": name, "size": size, "kept": kept, "order": self._order(name)}
            self.problem.ledger.append("decision", entry)
        elif sorted(entry.get("order", [])) != list(range(size)):
            raise ResumeError(
                f"the search ledger has no order of the channels of {name!r}; start anew without --resume"
            )
        self.orders[name], self.counts[name] = entry["order"], kept
        self.problem.watcher.on_decision(name, size, kept)
        considerable = kept < size and size - kept >= self.settings.considerable * size
        if considerable and self.retrain is not None and self.settings.retrain_epochs:
            self._retrain(name)

    def _try_ratios(self, position: int, width: Width) -> None:
        points: list[tuple[float, float]] = []
        unseen = self._possible(width)
        self._look_ahead(width)
        for step in range(1, self.per_width + 1):
            record = self.problem.evaluation(
                width.name, step, functools.partial(self._evaluation, position, width, step, points, unseen)
            )
            self.measurements.known[self._key(width.name, record.kept)] = (record.loss, record.accuracy)
            points.append((record.ratio, record.objective))
            unseen.discard(record.kept)
            if record.is_best:
                self.best[width.name] = record
            self.noted(record)
            if not unseen:
                break

    def _look_ahead(self, width: Width) -> None:
        """The first ratios don't depend on each other; each of those that are suggested does on all before it."""
        if self.problem.bench.jobs == 1:
            return
        steps = range(1 + self.problem.ledger.left, 4 + self.settings.init_points)
        counts = dict.fromkeys(self._count(width, self._ratio(width.name, step, [])) for step in steps)
        unknown = [n for n in counts if self._key(width.name, n) not in self.measurements.known]
        self.problem.bench.ahead([self._candidate(width, n) for n in unknown])

    def _possible(self, width: Width) -> set[int]:
        least = self._count(width, self.settings.max_pruning)
        return {n for n in self.problem.allowance.levels[width.name] if n >= least}

    def _count(self, width: Width, ratio: float) -> int:
        return self.problem.allowance.nearest(width.name, width.size - round(width.size * ratio))

    def _ratio(self, name: str, step: int, points: list[tuple[float, float]]) -> float:
        upper, seed = self.settings.max_pruning, derived_seed(self.settings.seed, name, step)
        if step <= 3:
            return upper * (step - 1) / 2
        if step <= 3 + self.settings.init_points:
            return random_ratios(1, upper, seed)[0]
        return suggest_ratios([((ratio,), value) for ratio, value in points], upper, seed)[0]

    def _evaluation(
        self, position: int, width: Width, step: int, points: list[tuple[float, float]], unseen: set[int]
    ) -> Evaluation:
        ratio = self._ratio(width.name, step, points)
        count = self._count(width, ratio)
        cached = self._key(width.name, count) in self.measurements.known
        best_so_far = self.best.get(width.name)
        rival = None if best_so_far is None else self._task(width, best_so_far.kept)
        loss, accuracy = self.measurements.score(self._task(width, count), rival)
        objective = self._objective(width.name, loss, self._size(width.name, count), points)
        finished = step == self.per_width or unseen <= {count}
        return self.problem.record(
            width.name, step, width.size, count, {**self.counts, width.name: count}, (loss, accuracy), objective,
            [value for _, value in points], ratio=ratio, seconds=round(self.measurements.seconds, 3), cached=cached,
            done=self.per_width * position + (self.per_width if finished else step), total=self.total,
        )  # fmt: skip

    def _objective(
        self, name: str, loss: float | None, size: Mapping[str, float], points: list[tuple[float, float]]
    ) -> float:
        if loss is None and not points:
            raise NotFiniteError(
                f"the network's loss is not finite before {name!r} is pruned; check weights and data, "
                "or retrain at a lower learning rate"
            )
        return objective_of(loss, self.settings.price(size), [value for _, value in points])

    def _size(self, name: str, count: int) -> dict[str, float]:
        return self.problem.costs.count({**self.counts, name: count}).relative_to(self.whole)

    def _task(self, width: Width, count: int) -> Task:
        name = width.name
        price = self.settings.price(self._size(name, count))
        return Task(self._key(name, count), lambda: self._candidate(width, count), price)

    def _key(self, name: str, count: int) -> tuple[Any, ...]:
        """What a measurement depends on: the weights, and all counts that are not whole."""
        counts = {**self.counts, name: count}
        return (self.retrains, *((w.name, counts[w.name]) for w in self.widths if counts.get(w.name, w.size) < w.size))

    def _candidate(self, width: Width, count: int) -> Candidate:
        self._load_weights()
        base = {n: self._kept(n, c) for n, c in self.counts.items() if c < self.problem.graph.width(n).size}
        if count == width.size:
            return Candidate(base, "realize", "loss", base=base)
        self._order(width.name)
        kept = {**base, width.name: self._kept(width.name, count)}
        return Candidate(kept, "realize", "loss", width.name, base)

    def _kept(self, name: str, count: int) -> tuple[int, ...]:
        order = self.orders[name]
        return tuple(sorted(order[len(order) - count :]))

    def _order(self, name: str) -> list[int]:
        """The order in which the groups of a width go, ranked on the weights as they are when its turn comes."""
        if name not in self.orders:
            s, graph = self.settings, self.problem.graph
            self._load_weights()
            decided = {n: self._kept(n, count) for n, count in self.counts.items()}
            pruned = copied(self.model)
            pruned.load_state_dict(zero_removed(self.model.state_dict(), graph, decided))
            ranking = rank(pruned, graph, s.metric, self.problem.batches, s.seed, s.slots)
            self.notes.extend(ranking.notes)
            self.orders[name] = [int(i) for i in ranking.order[name]]
        return self.orders[name]

    # -- retraining

    def _retrain(self, name: str) -> None:
        epochs = self.settings.retrain_epochs
        entry = self.problem.ledger.recorded("retrain", width=name, epochs=epochs)
        if entry is not None:
            self.retrains += 1
            self.weights_to_load = entry.get("sha256", "")
            return
        self.problem.watcher.on_retrain(name, epochs)
        started = time.perf_counter()
        state = self._retrained(name, epochs)
        self._take(state)
        self.retrains += 1
        self.checkpoints.save(self.retrains, state)
        seconds = round(time.perf_counter() - started, 3)
        fields = {"width": name, "epochs": epochs, "sha256": sha256_of_state(state), "seconds": seconds}
        self.problem.ledger.append("retrain", fields)
        self.checkpoints.drop(self.retrains - 1)  # only now that the ledger names the new weights
        self.stop_if_asked()

    def _retrained(self, name: str, epochs: int) -> State:
        """The whole state after retraining what is kept of it."""
        kept = {n: self._kept(n, count) for n, count in self.counts.items()}
        zeroed = self.settings.mode == "zeroOut"
        self._load_weights()
        graph = self.problem.graph
        realize = self.problem.evaluator.realize
        assert self.retrain is not None and realize is not None
        network = zero_out(self.model, graph, kept) if zeroed else realize(self.model, kept)
        try:
            with self.stop.paused(), seeded(derived_seed(self.settings.seed, name, "retrain")):
                self.retrain(network, epochs)
        except Interrupted:  # a trainer's own words would be about training
            raise self.interrupted() from None
        state = scatter(self.model.state_dict(), network.state_dict(), graph, {} if zeroed else kept)
        if not all(t.isfinite().all() for t in state.values() if t.is_floating_point()):
            raise NotFiniteError(
                f"retraining after pruning {name!r} ended with NaN or infinite weights; lower its learning rate"
            )
        return state

    def _load_weights(self) -> None:
        """After a replay: bring in the weights that the last retraining left."""
        if self.weights_to_load is not None:
            self._take(self.checkpoints.load(self.retrains, self.weights_to_load))
            self.weights_to_load = None

    def _take(self, state: State) -> None:
        self.model.load_state_dict(state)
        self.problem.bench.use(self.model)

    # -- the end

    def _on_budget(self) -> Counts:
        allowance = self.problem.allowance
        if allowance.budget is None:
            return self.counts
        return (grow if allowance.meets(self.counts) else shrink)(allowance, self.counts)


def in_direction(problem: Problem) -> list[Width]:
    """The widths in the order of the network's run, or from the output for top-down."""
    widths = in_run_order(problem.graph)
    return widths if problem.settings.direction == "bottom-up" else widths[::-1]
