"""How a search is shown: a bar, a line for every new best and every decision, and before them what the words mean."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ...pruners.search import Evaluation, SearchSettings, Watcher
from ..show import Voice

_SOME = 4


class TimeLeft:
    """How long a search goes on, from what its evaluations took so far, of every kind by itself.

    ``parts``: how many there are of one kind after the other, and how much more than one of the first kind one of them
    is expected to take, which counts before there was any. What the very first took holds much that is done once.
    """

    def __init__(self, parts: Sequence[tuple[int, float]]) -> None:
        self._ends = [sum(number for number, _ in parts[: n + 1]) for n in range(len(parts))]
        self._expected = [times for _, times in parts]
        self._took: list[list[tuple[int, float]]] = [[] for _ in parts]
        self._done = 0

    def note(self, done: int, seconds: float) -> None:
        """``done`` of all are, which took so long since the last time."""
        part = next(n for n, end in enumerate(self._ends) if done <= end)
        if done > self._done:
            self._took[part].append((done - self._done, seconds))
            self._done = done

    @property
    def known(self) -> bool:
        """Whether there were enough to tell."""
        return any(len(took) > _SOME for took in self._took)

    @property
    def seconds(self) -> float:
        left, first, before = 0.0, 0.0, 0
        for end, took, times in zip(self._ends, self._took, self._expected, strict=True):
            counted = took[1:] if len(took) > _SOME else took
            cost = sum(s for _, s in counted) / sum(n for n, _ in counted) if counted else times * first
            left += cost * max(0, end - max(self._done, before))
            first, before = first or cost, end
        return left


class SearchWatcher(Watcher):
    """Use as a context manager around the search."""

    def __init__(self, voice: Voice, settings: SearchSettings, scored: bool = False) -> None:
        """``scored``: candidates are judged by a measure of the user's own."""
        self._voice = voice
        self._words = legend(settings, scored)
        self._count = 0
        self._started = False
        self._parts: Sequence[tuple[int, float]] = ()
        self._left = TimeLeft(())
        self._last, self._new = time.monotonic(), False

    def __enter__(self) -> SearchWatcher:
        return self

    def __exit__(self, *_: object) -> None:
        if self._started:
            self._voice.progress.finish()

    def on_start(self, parts: Sequence[tuple[int, float]]) -> None:
        self._parts = parts
        self._last = time.monotonic()

    def on_evaluation(self, record: Evaluation) -> None:
        if not self._started:
            self._voice.remark(self._words)
            self._voice.progress.start(record.total, "searching widths")
            self._left = TimeLeft(self._parts or ((record.total, 1.0),))
            self._started = True
        self._left.note(record.done, self._seconds(record))
        if self._left.known:
            self._voice.progress.expect(self._left.seconds)
        self._count += 1
        left = record.total - record.done  # what was left out on the way is neither done nor to do
        self._voice.progress.advance(1, f"{record.width}, best {record.best:.4f}", self._count + left)
        if record.is_best and record.step > 1:
            self._voice.remark(f"{_line(record)}  new best", highlight=True)
        else:
            self._voice.detail(_line(record))

    def _seconds(self, record: Evaluation) -> float:
        """What an evaluation took with all that goes with it; of one that is told again, what it took itself."""
        now = time.monotonic()
        since, self._last = now - self._last, now
        self._new = self._new or since >= record.seconds / 2
        return since if self._new else record.seconds

    def on_decision(self, width: str, size: int, kept: int) -> None:
        message = f"{width}: {size} -> {kept} channels" if kept < size else f"{width}: stays whole, {size} channels"
        (self._voice.remark if self._started else self._voice.detail)(message)

    def on_retrain(self, width: str, epochs: int) -> None:
        self._voice.detail(f"{width}: retraining for {epochs} epochs")


def legend(settings: SearchSettings, scored: bool) -> str:
    """What the numbers of a search are, in a line."""
    what = "the loss on validation images"
    if scored:
        what = "the share of the score that is lost"
    elif settings.strategy == "sensitivity":
        what = "the share by which the outputs move"
    priced = settings.strategy == "bayesian" and settings.alpha and (settings.budget is None or settings.per == "layer")
    what = f"({what} + {settings.alpha:g} x the size that is left)" if priced else what
    return f"objective: minus {what}; best: the highest so far"


def _line(record: Evaluation) -> str:
    loss = "loss not finite" if record.loss is None else f"loss {record.loss:.4f}"
    loss = loss if record.score is None else f"score {record.score:.6g}"
    accuracy = "" if record.accuracy is None else f"  accuracy {record.accuracy:.1%}"
    return (
        f"  {record.width}  -{record.ratio:.0%} ({record.kept} kept)  {loss}{accuracy}"
        f"  parameters {record.params:.0%}  objective {record.objective:.4f}"
    )
