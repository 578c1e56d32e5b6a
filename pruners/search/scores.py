"""Candidates' scores, each measured once, and candidates that are given up before all images are seen."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .bench import Bench, Candidate, Evaluator
from .problem import Score

Key = tuple[Any, ...]
SHARE, ERRORS = 0.25, 3.0


@dataclass(frozen=True)
class Task:
    """``price``: what the objective of the candidate adds to its loss."""

    key: Key
    candidate: Callable[[], Candidate]
    price: float


class Judge:
    """Sees the losses of a candidate batch by batch and gives it up when it is hopeless.

    With the differences ``d_i = loss_i(candidate) - loss_i(best)`` over the first ``m`` images, at least a quarter of
    all, the candidate is hopeless when its objective is worse by more than three standard errors::

        mean(d) + price(candidate) - price(best) > 3 * deviation(d) / sqrt(m)

    As the same images are compared, the error is that of the difference, which is far smaller than that of a loss.
    """

    def __init__(self, best: Tensor | None, handicap: float) -> None:
        self._best, self._handicap = best, handicap
        self.losses = torch.empty(0)
        self.stopped = False

    def __call__(self, losses: Tensor, total: int) -> bool:
        self.losses, self.stopped = losses, False
        if self._best is None or not SHARE * total <= len(losses) < total:
            return False
        error = self._differences.std().item() / math.sqrt(len(losses))
        self.stopped = self.behind + self._handicap > ERRORS * error
        return self.stopped

    @property
    def behind(self) -> float:
        """The mean difference."""
        return self._differences.mean().item()

    @property
    def _differences(self) -> Tensor:
        assert self._best is not None
        return self.losses.double() - self._best[: len(self.losses)].double()


class Measurements:
    """``stop_early``: the evaluation takes a ``stop`` as well (see ``Evaluate``), and candidates are judged on part of
    the images.

    What is known of one that was given up is an estimate: the best one's loss plus the mean difference.
    """

    def __init__(self, bench: Bench, evaluator: Evaluator, stop_early: bool) -> None:
        self._bench, self._evaluator, self._stop_early = bench, evaluator, stop_early
        self.known: dict[Key, Score] = {}
        self.seconds = 0.0  # that the last one took
        self._losses: dict[Key, Tensor] = {}

    def keep_only(self, key: Key) -> None:
        """Forget the losses of single images of all other candidates."""
        self._losses = {k: losses for k, losses in self._losses.items() if k == key}

    def score(self, task: Task, best: Task | None) -> Score:
        self.seconds = 0.0
        if task.key not in self.known:
            self.known[task.key] = self._judged(task, best) if self._stop_early else self._whole(task)
        return self.known[task.key]

    def _whole(self, task: Task) -> Score:
        found = self._bench.result(task.candidate())
        self.seconds = found.seconds
        loss, accuracy = found.value
        return finite(loss), finite(accuracy)

    def _judged(self, task: Task, best: Task | None) -> Score:
        if best is None:
            return self._watched(task, Judge(None, 0.0))
        if best.key not in self._losses:  # after a replay
            self._watched(best, Judge(None, 0.0))
        judge = Judge(self._losses[best.key], task.price - best.price)
        loss, accuracy = self._watched(task, judge)
        known = self.known[best.key][0]
        return (known + judge.behind if judge.stopped and known is not None else loss), accuracy

    def _watched(self, task: Task, judge: Judge) -> Score:
        started = time.perf_counter()
        loss, accuracy = self._evaluator.judged(
            task.candidate(), lambda model: self._evaluator.loss_of(model, judge)
        )
        self.seconds += time.perf_counter() - started
        if not judge.stopped:
            self._losses[task.key] = judge.losses
        return finite(loss), finite(accuracy)


def finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
