"""Progress of a search: one count everywhere, words that are explained, and bars that fit narrow terminals."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from secateur.commands.pruning.watcher import SearchWatcher, legend
from secateur.commands.show import Voice
from secateur.pruners.budgets import Budget
from secateur.pruners.search import Evaluation, SearchSettings
from secateur.pruners.search.problem import Searching
from secateur.training.fit.progress import LineProgress, RichProgress


def record(step: int, done: int, total: int, width: str = "layer1.0.conv1") -> Evaluation:
    return Evaluation(
        width, step, 0.5, 8, 8, 0.1, 0.9, -0.1, -0.1, is_best=step == 2, params=0.5, macs=0.5, bits=0.5, seconds=0.1,
        cached=False, seed=0, done=done, total=total,
    )  # fmt: skip


RECORDS = [record(1, 1, 12), record(2, 4, 12), record(1, 5, 12, "fc")]
"""Two of the first width's four were left out, as nothing new was to be tried."""


class Heard:
    """A voice that keeps what it is told."""

    def __init__(self) -> None:
        self.progress, self.said = LineProgress(steps=1), list[str]()
        self.progress.log = self.said.append  # type: ignore[method-assign]

    def remark(self, message: str, highlight: bool = False) -> None:
        self.said.append(message)

    detail = remark


def test_what_was_left_out_is_neither_done_nor_to_do() -> None:
    heard = Heard()
    with SearchWatcher(cast(Voice, heard), SearchSettings()) as watcher:
        for one in RECORDS:
            watcher.on_evaluation(one)
    counts = re.findall(r"searching widths: (\d+)/(\d+)", "\n".join(heard.said))
    assert counts == [("1", "12"), ("2", "10"), ("3", "10")]
    searching = Searching(cast(Any, SimpleNamespace(ledger=SimpleNamespace(path=None), settings=None)), 12)
    searching.evaluations += RECORDS
    assert str(searching.interrupted()).startswith("search interrupted after 3 of 10 evaluations")


def test_words_are_explained_once_before_they_are_used() -> None:
    heard = Heard()
    with SearchWatcher(cast(Voice, heard), SearchSettings()) as watcher:
        for one in RECORDS:
            watcher.on_evaluation(one)
    assert [n for n, line in enumerate(heard.said) if line.startswith("objective: ")] == [0]
    assert any("objective -0.1000" in line for line in heard.said)


@pytest.mark.parametrize(
    ("settings", "scored", "words"),
    [
        (SearchSettings(alpha=2.0), False, "minus (the loss on validation images + 2 x the size that is left); best"),
        (SearchSettings(per="stage", budget=Budget("macs", 0.5)), False, "minus the loss on validation images; best"),
        (SearchSettings(strategy="sensitivity", budget=Budget("macs", 0.5)), False, "minus the share by which the out"),
        (SearchSettings(alpha=0.0), True, "minus the share of the score that is lost; best: the highest so far"),
    ],
    ids=["size counts", "on a budget", "outputs are compared", "a score"],
)
def test_the_objective_is_explained_as_it_is(settings: SearchSettings, scored: bool, words: str) -> None:
    assert legend(settings, scored).startswith(f"objective: {words}")


@pytest.mark.parametrize(("width", "status"), [(60, "layer3"), (80, "layer3.0.conv1, best -0.0824"), (120, "-0.0824")])
def test_bars_fit_the_terminal(width: int, status: str) -> None:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, legacy_windows=False)
    with RichProgress(console) as progress:
        progress.start(1280, "searching widths")
        progress.advance(500, "layer3.0.conv1, best -0.0824", 1200)
        progress.start(640, "retraining")
        progress.advance(64, "epoch 1/5, loss 0.1234")
        progress.finish()
        progress.finish()
    lines = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", out.getvalue()).replace("\r", "\n").splitlines()
    assert max(map(len, lines)) <= width
    assert any("500/1200" in line and "ETA" in line and status in line for line in lines)
