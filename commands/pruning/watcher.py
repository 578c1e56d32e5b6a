"""How a search is shown: a bar, a line for every new best and every decision."""

from __future__ import annotations

from ...pruners.search import Evaluation, Watcher
from ..show import Voice


class SearchWatcher(Watcher):
    """Use as a context manager around the search."""

    def __init__(self, voice: Voice) -> None:
        self._voice = voice
        self._done = 0
        self._started = False

    def __enter__(self) -> SearchWatcher:
        return self

    def __exit__(self, *_: object) -> None:
        if self._started:
            self._voice.progress.finish()

    def on_evaluation(self, record: Evaluation) -> None:
        if not self._started:
            self._voice.progress.start(record.total, "searching widths")
            self._started = True
        self._voice.progress.advance(record.done - self._done, f"{record.width}, best {record.best:.4f}")
        self._done = record.done
        if record.is_best and record.step > 1:
            self._voice.remark(f"{_line(record)}  new best", highlight=True)
        else:
            self._voice.detail(_line(record))

    def on_decision(self, width: str, size: int, kept: int) -> None:
        message = f"{width}: {size} -> {kept} channels" if kept < size else f"{width}: stays whole, {size} channels"
        (self._voice.remark if self._started else self._voice.detail)(message)

    def on_retrain(self, width: str, epochs: int) -> None:
        self._voice.detail(f"{width}: retraining for {epochs} epochs")


def _line(record: Evaluation) -> str:
    loss = "loss not finite" if record.loss is None else f"loss {record.loss:.4f}"
    loss = loss if record.score is None else f"score {record.score:.6g}"
    accuracy = "" if record.accuracy is None else f"  accuracy {record.accuracy:.1%}"
    return (
        f"  {record.width}  -{record.ratio:.0%} ({record.kept} kept)  {loss}{accuracy}"
        f"  parameters {record.params:.0%}  objective {record.objective:.4f}"
    )
