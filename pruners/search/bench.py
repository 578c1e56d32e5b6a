"""Where candidates are made and judged: in this process, one after the other, or in others (``workers``).

What comes out depends on the candidate alone, not on which others were judged before it, nor where.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import torch
from torch import nn

from ..graph import Kept, Realize
from ..metrics import Batch
from ..run import copied
from .damage import Difference, Reference
from .prefix_cache import PrefixCache

T = TypeVar("T")
Evaluate = Callable[..., tuple[float, float]]
"""model -> (loss, accuracy) on held-out data. To stop early, (model, stop): ``stop(losses, images)`` is to be asked
after every batch with the losses of the images so far and the number of all; when it says True, the means over those so
far are given."""


@dataclass(frozen=True)
class Scored:
    """A measure of the user's own, the larger the better, in place of losses. ``before``: what the whole network gets.

    The loss of a candidate is the share of that which it has lost, so that the unit of the measure doesn't matter.
    """

    measure: Callable[[nn.Module], float]
    before: float

    def lost(self, model: nn.Module) -> float:
        return (self.before - self.measure(model)) / self._unit

    def of(self, loss: float | None) -> float | None:
        """The measure of a candidate with this loss."""
        return None if loss is None else float(f"{self.before - loss * self._unit:.12g}")

    @property
    def _unit(self) -> float:
        return abs(self.before) or 1.0


@dataclass(frozen=True)
class Candidate:
    """A pruned version of the whole network, and what is asked of it.

    ``way``: how it is made (see ``Evaluator``). ``asked``: how far its ``outputs`` are from the whole network's, how
    much less its ``score`` is, both as a ``Difference``, or its ``loss`` and accuracy. ``width``: what alone sets it
    apart from the version that keeps ``base``, or "" where that isn't known.
    """

    kept: Kept
    way: Literal["realize", "finish", "probe"]
    asked: Literal["outputs", "score", "loss"]
    width: str = ""
    base: Kept = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """What was asked for, and the ``seconds`` that it took."""

    value: Any
    seconds: float


class Evaluator:
    """Makes candidates of ``model`` and judges them.

    ``realize`` gives one the slices of the model's weights, ``finish`` the weights that it would have in the end
    (``--transfer``), ``probe`` what comes near to them where one width alone is narrower, and takes less time.
    ``batches``: (images, labels) for metrics that need data, and for probes, which don't look at the labels.
    ``scored``: a measure that judges instead of ``evaluate``. ``classes``: rows of outputs are scores of classes.
    ``cache``: what candidates have in common is computed once, in up to 2 GB; the outcome is the same with any limit.
    """

    def __init__(
        self, model: nn.Module, *, realize: Realize | None = None, finish: Realize | None = None,
        probe: Realize | None = None, evaluate: Evaluate | None = None, scored: Scored | None = None,
        batches: Sequence[Batch] | None = None, cache: PrefixCache | None = None, classes: bool = True,
    ) -> None:  # fmt: skip
        self.model, self.realize, self.finish = model, realize, finish or realize
        self.probe = probe or self.finish
        self.evaluate, self.scored, self.batches, self.classes = evaluate, scored, batches, classes
        self.cache = cache or PrefixCache()
        self._base: Kept | None = None
        self._reference: Reference | None = None

    def use(self, model: nn.Module) -> None:
        """Candidates come from these weights of the whole network from now on."""
        self.model, self._base = model, None

    def __call__(self, candidate: Candidate) -> Any:
        judges: dict[str, Callable[[nn.Module], Any]] = {
            "outputs": self._compared, "score": self._scored, "loss": self.loss_of,
        }  # fmt: skip
        return self.judged(candidate, judges[candidate.asked])

    def judged(self, candidate: Candidate, judge: Callable[[nn.Module], T]) -> T:
        """What the judge says of the candidate, who may skip what it has in common with others."""
        if candidate.way == "finish":  # of whole candidates nothing is known, and fitting them takes memory
            self.cache.clear()
            self._base = None
        elif self._base != candidate.base:
            self._base = candidate.base
            self.cache.start_from(self._start)
        return self.cache.evaluate(candidate.width, lambda: self._made(candidate), judge)

    def loss_of(self, model: nn.Module, *more: Any) -> tuple[float, float]:
        if self.scored is not None:
            return self.scored.lost(model), float("nan")
        assert self.evaluate is not None
        return self.evaluate(model, *more)

    def _made(self, candidate: Candidate) -> nn.Module:
        make: Realize | None = getattr(self, candidate.way)
        assert make is not None
        return make(self.model, candidate.kept)

    def _start(self) -> nn.Module:
        assert self.realize is not None
        return self.realize(self.model, self._base) if self._base else copied(self.model)

    def _compared(self, model: nn.Module) -> Difference:
        if self._reference is None:
            self._reference = Reference(self.model, self.batches or (), self.classes)
        return self._reference.compare(model)

    def _scored(self, model: nn.Module) -> Difference:
        """Nothing is known of single images."""
        assert self.scored is not None
        lost = self.scored.lost(model)
        return Difference(lost, None, torch.tensor([lost], dtype=torch.float64))


class Bench:
    """Judges candidates when they are asked for, in this process. A context manager for what others need."""

    jobs = 1

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        pass

    def use(self, model: nn.Module) -> None:
        """Candidates come from these weights of the whole network from now on."""
        self.evaluator.use(model)

    def ahead(self, candidates: Sequence[Candidate]) -> None:
        """These are likely to be asked for, in this order. Nothing new is begun while the first of them is at work."""

    def result(self, candidate: Candidate) -> Found:
        """What is asked of the candidate."""
        started = time.perf_counter()
        value = self.evaluator(candidate)
        return Found(value, time.perf_counter() - started)
