"""What all strategies share: settings, the problem, records and the registry."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from ..costs import Allowance, Budget, CostModel, Costs, Counts, Limits
from ..errors import ConflictError, Interrupted, MeasureError, NeedsDataError, OptionError, ResumeError
from ..graph import ChannelGraph
from ..metrics import Batch
from ..plan import PruningPlan, from_kept
from ..registry import Registry
from ..run import StopRequest
from .bench import Bench, Evaluator
from .ledger import Ledger

Score = tuple[float | None, float | None]
"""Loss and accuracy, None where they are not finite."""

UNJUDGED = "--search {} evaluates candidates; give --data or --score, or take --search uniform or global"
NO_LOSSES = "--stop-early looks at the losses of single images, of which --score tells nothing"
ONE_BY_ONE = "--stop-early holds every candidate against the one before it: give it without --jobs"
Retrain = Callable[[nn.Module, int], None]
"""(model, epochs): train the model in place."""


@dataclass(frozen=True)
class SearchSettings:
    """Everything that decides the outcome besides network and data.

    ``alpha`` weighs size against loss. ``direction``: ``bottom-up`` from the input, or ``top-down``. ``max_pruning``:
    the largest fraction of a width that may go (bayesian). ``init_points`` random and ``n_iter`` suggested ratios
    follow three fixed ones. No retraining follows a width that lost less than the fraction ``considerable``.
    ``mode``: what is retrained inside a search, ``prune`` the sliced network, ``zeroOut`` the whole one with zeros.
    ``stop_early``: candidates that are hopeless on part of the images are not shown the others (``Judge``); what is
    suggested next may differ then, which is why it isn't the default.
    ``per``: what the bayesian search gives a ratio, every ``layer``'s width, one after the other, or every ``stage`` of
    widths, jointly. ``min_fraction`` is 10 % by default where scores of several widths are compared (``global``, and
    per stage), else 0. Raises ``UsageError`` for values out of range.
    """

    strategy: str = "bayesian"
    metric: str = "l1"
    slots: str = "all"
    budget: Budget | None = None
    min_channels: int = 2
    min_fraction: float | None = None
    round_to: int = 1
    alpha: float = 1.0
    direction: str = "bottom-up"
    max_pruning: float = 0.4
    init_points: int = 5
    n_iter: int = 5
    considerable: float = 0.05
    retrain_epochs: int = 5
    mode: str = "prune"
    stop_early: bool = False
    per: str = "layer"
    seed: int = 0

    def __post_init__(self) -> None:
        rules = {
            "alpha": (0 <= self.alpha < float("inf"), "a number that is 0 or more"),
            "direction": (self.direction in ("bottom-up", "top-down"), "bottom-up or top-down"),
            "mode": (self.mode in ("prune", "zeroOut"), "prune or zeroOut"),
            "per": (self.per in ("layer", "stage"), "layer or stage"),
            "max_pruning": (0 < self.max_pruning < 1, "between 0 and 1, both excluded"),
            "init_points": (self.init_points >= 0, "0 or more"),
            "n_iter": (self.n_iter >= 0, "0 or more"),
            "considerable": (0 <= self.considerable < 1, "at least 0 and below 1"),
            "retrain_epochs": (self.retrain_epochs >= 0, "0 or more"),
        }
        for name, (fine, rule) in rules.items():
            if not fine:
                raise OptionError(f"{name.replace('_', '-')} {getattr(self, name)!r}: must be {rule}")
        if self.budget is not None and self.budget.parts and self.strategy != "uniform":
            word, share = self.budget.parts[0]
            raise ConflictError(f"--ratio {word}={share:g} is for --search uniform, not {self.strategy}: leave one out")
        if self.per == "stage" and self.strategy != "bayesian":
            raise ConflictError(
                f"--per stage is for --search bayesian, this is {self.strategy}: add it, or leave --per out"
            )

    @property
    def limits(self) -> Limits:
        default = 0.1 if self.strategy == "global" or self.per == "stage" else 0.0
        return Limits(self.min_channels, default if self.min_fraction is None else self.min_fraction, self.round_to)

    def price(self, size: Mapping[str, float]) -> float:
        """What the size of a network, as fractions of the whole one's, adds to its loss: alpha * P + alpha / 4 * B."""
        return self.alpha * (size["params"] + size["bits"] / 4)

    def as_dict(self) -> dict[str, Any]:
        found = dataclasses.asdict(self)
        if self.budget is not None and not self.budget.parts:
            del found["budget"]["parts"]  # as ledgers have it
        return found


@dataclass(frozen=True)
class Evaluation:
    """One candidate: what was tried and what came out. ``params``, ``macs`` and ``bits`` are fractions of the whole
    network's; ``loss`` is None when it was not finite; ``is_best`` marks a new best of its width; ``cached`` one
    that was known already; ``done`` of ``total`` counts for a progress bar; ``score`` is what a measure of the user's
    own gave (``Scored``)."""

    width: str
    step: int
    ratio: float
    removed: int
    kept: int
    loss: float | None
    accuracy: float | None
    objective: float
    best: float
    is_best: bool
    params: float
    macs: float
    bits: float
    seconds: float
    cached: bool
    seed: int
    done: int
    total: int
    score: float | None = None


class Watcher:
    """Told about the progress of a search; override what is of interest. Replayed events are told as well."""

    def on_start(self, parts: Sequence[tuple[int, float]]) -> None:
        """Before the first: how many evaluations there are at most, of one kind after the other, and how many times as
        long as one of the first kind one of them is likely to take."""

    def on_evaluation(self, record: Evaluation) -> None:
        """After every evaluation."""

    def on_decision(self, width: str, size: int, kept: int) -> None:
        """After the last evaluation of a width."""

    def on_retrain(self, width: str, epochs: int) -> None:
        """Before retraining starts."""


@dataclass(frozen=True)
class Problem:
    """What a strategy gets to work with. ``allowance`` and ``costs`` count exactly and for free. ``evaluator`` holds
    what there is to judge candidates with, which happens on the ``bench``; ``retrain`` trains in between, if it can.
    """

    model: nn.Module
    graph: ChannelGraph
    settings: SearchSettings
    costs: CostModel
    allowance: Allowance
    ledger: Ledger
    evaluator: Evaluator
    bench: Bench
    retrain: Retrain | None = None
    watcher: Watcher = field(default_factory=Watcher)

    @property
    def batches(self) -> Sequence[Batch] | None:
        return self.evaluator.batches

    def evaluation(self, width: str, step: int, measure: Callable[[], Evaluation]) -> Evaluation:
        """The next evaluation of the ledger; where it holds no more, the one measured now, which is appended.

        Raises UsageError where the ledger holds something else, or an evaluation of another version, MeasureError
        where the user's own measure fails.
        """
        entry = self.ledger.recorded("evaluation", width=width, step=step)
        if entry is None:
            try:
                record = measure()
            except MeasureError as error:
                kept = "; --resume goes on from here if its file stays the same" if self.ledger.path else ""
                told = f"{error}, at evaluation {step} of {width} in the search{kept}"
                raise MeasureError(told, site=error.site) from error
            self.ledger.append("evaluation", dataclasses.asdict(record))
            return record
        try:
            return Evaluation(**{name: value for name, value in entry.items() if name != "event"})
        except TypeError:
            raise ResumeError("the search ledger has fields of another version; start anew without --resume") from None

    def require_losses(self) -> None:
        """Raises ``UsageError`` where candidates can't be made, or have no loss."""
        judged = self.evaluator.scored is not None or self.evaluator.evaluate is not None
        if not judged or self.evaluator.realize is None:
            raise NeedsDataError(UNJUDGED.format(self.settings.strategy))

    def score_of(self, loss: float | None) -> float | None:
        """What the user's own measure, if there is one, gave a candidate with this loss."""
        return None if self.evaluator.scored is None else self.evaluator.scored.of(loss)

    def record(
        self, width: str, step: int, groups: int, kept: int, counts: Counts, found: Score, objective: float,
        others: Sequence[float], **more: Any,
    ) -> Evaluation:  # fmt: skip
        """The record of a candidate with these ``counts``, of which so many ``groups`` of the width are ``kept``.
        ``others``: objectives of those before it; ``more``: other fields than what follows from this, too."""
        size = self.costs.count(counts).relative_to(self.costs.count({}))
        fields: dict[str, Any] = {
            "ratio": (groups - kept) / groups, "best": max([objective, *others]), "cached": False,
            "is_best": all(objective > value for value in others), "seed": self.settings.seed,
            "params": size["params"], "macs": size["macs"], "bits": size["bits"], "score": self.score_of(found[0]),
        }  # fmt: skip
        loss, accuracy = found
        return Evaluation(
            width=width, step=step, removed=groups - kept, kept=kept, loss=loss, accuracy=accuracy,
            objective=objective, **{**fields, **more},
        )  # fmt: skip


@dataclass(frozen=True)
class SearchResult:
    """``kept``: for every width the indices that stay, in the whole network's numbering. ``best``: per width its
    best evaluation. ``state``: when there was retraining, the retrained weights in the whole network's shapes
    (removed channels hold stale values), to be sliced by ``kept`` like the original's."""

    kept: Mapping[str, tuple[int, ...]]
    before: Costs
    after: Costs
    evaluations: tuple[Evaluation, ...] = ()
    best: Mapping[str, Evaluation] = field(default_factory=dict)
    state: Mapping[str, torch.Tensor] | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()

    def plan(self, graph: ChannelGraph, provenance: Mapping[str, Any] | None = None) -> PruningPlan:
        """The result as a validated plan."""
        return from_kept(graph, self.kept, provenance)


def objective_of(loss: float | None, price: float, others: Sequence[float]) -> float:
    """What a search maximises: ``-(loss + price)``. A Gaussian process takes finite numbers only: for another loss
    something clearly worse than all others, yet of their scale."""
    return -(loss + price) if loss is not None else min(others) - 1.0


class Searching:
    """A search that looks at up to ``total`` candidates: their records, and the end on Ctrl-C."""

    def __init__(self, problem: Problem, total: int) -> None:
        self.problem, self.settings, self.total = problem, problem.settings, total
        self.evaluations: list[Evaluation] = []
        self.stop = StopRequest()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within this block Ctrl-C ends the search where it is asked for."""
        try:
            with self.stop.listening():
                yield
        except KeyboardInterrupt:
            raise self.interrupted() from None

    def noted(self, record: Evaluation) -> None:
        self.evaluations.append(record)
        self.problem.watcher.on_evaluation(record)
        self.stop_if_asked()

    def stop_if_asked(self) -> None:
        if self.stop.requested:
            raise self.interrupted()

    def interrupted(self) -> Interrupted:
        """The error that ends the search, with what is kept of it."""
        done = self.evaluations
        left = self.total - done[-1].done if done else self.total
        after = f"{len(done)} of {len(done) + left} evaluations"
        kept = "continue with --resume" if self.problem.ledger.path else "without a ledger nothing is kept"
        return Interrupted(f"search interrupted after {after}; {kept}")


Strategy = Callable[[Problem], SearchResult]
SEARCHES = Registry[Strategy]("search")


def search_strategy(name: str, *, labels: bool = False) -> Callable[[Strategy], Strategy]:
    """Register a strategy: problem -> result. ``labels``: it judges candidates, for which it takes labelled images."""
    return SEARCHES.register(name, labels=labels)
