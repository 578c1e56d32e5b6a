"""How a search is shown: a bar, a line for every new best and every decision, and before them what the words mean."""

from __future__ import annotations

from ...pruners.search import Evaluation, SearchSettings, Watcher
from ..show import Voice


class SearchWatcher(Watcher):
    """Use as a context manager around the search."""

    def __init__(self, voice: Voice, settings: SearchSettings, scored: bool = False) -> None:
        """``scored``: candidates are judged by a measure of the user's own."""
        self._voice = voice
        self._words = legend(settings, scored)
        self._count = 0
        self._started = False

    def __enter__(self) -> SearchWatcher:
        return self

    def __exit__(self, *_: object) -> None:
        if self._started:
            self._voice.progress.finish()

    def on_evaluation(self, record: Evaluation) -> None:
        if not self._started:
            self._voice.remark(self._words)
            self._voice.progress.start(record.total, "searching widths")
            self._started = True
        self._count += 1
        left = record.total - record.done  # what was left out on the way is neither done nor to do
        self._voice.progress.advance(1, f"{record.width}, best {record.best:.4f}", self._count + left)
        if record.is_best and record.step > 1:
            self._voice.remark(f"{_line(record)}  new best", highlight=True)
        else:
            self._voice.detail(_line(record))

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
