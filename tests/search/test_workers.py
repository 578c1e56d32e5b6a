"""Candidates that are judged in several processes at once: the outcome is that of one."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from deep_networks import timeless
from searched_in_parts import Part
from torch import nn

from secateur.pruners.costs import Budget
from secateur.pruners.errors import Interrupted, OutOfMemory, UsageError
from secateur.pruners.search import Evaluation, Evaluator, SearchSettings, Watcher, Workers, workers

SENSITIVITY = SearchSettings("sensitivity", budget=Budget("macs", 0.5))
LAYERWISE = SearchSettings(init_points=3, n_iter=1, max_pruning=0.8, alpha=0.2)
STAGED = SearchSettings(per="stage", init_points=3, n_iter=2, max_pruning=0.8)


def equal(first: Any, second: Any) -> bool:
    states = [r.state or {} for r in (first, second)]
    same = states[0].keys() == states[1].keys() and all(torch.equal(t, states[1][k]) for k, t in states[0].items())
    return same and timeless(first) == timeless(second)


class Broken(Part):
    def evaluate(self, model: nn.Module) -> tuple[float, float]:
        raise UsageError("this fails")


# -- refusals


def test_candidates_that_are_held_against_each_other_are_not_for_many_processes() -> None:
    with pytest.raises(UsageError, match=r"--stop-early .* without --jobs"):
        Part().run(replace(LAYERWISE, stop_early=True), workers=Workers(Part(), 2))


def test_what_goes_wrong_in_another_process_is_told_here() -> None:
    with pytest.raises(UsageError, match=r"^this fails$"):
        Part().run(LAYERWISE, workers=Workers(Broken(), 2))


class Deadly(Part):
    def __call__(self) -> Evaluator:
        self.deadly.touch()
        return super().__call__()


def test_processes_that_are_killed_again_and_again_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "DEATHS", 1)
    with pytest.raises(OutOfMemory, match=r"--jobs 2: .* were killed 1 times in a row, perhaps for want of memory"):
        Part().run(LAYERWISE, workers=Workers(Deadly(tmp_path / "deadly"), 2))


def test_processes_that_are_begun_never_hear_of_ctrl_c_and_this_one_does() -> None:
    asked = [sys.executable, "-c", "import signal; print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"]
    before = signal.getsignal(signal.SIGINT)
    with workers._deaf_children():
        assert subprocess.run(asked, capture_output=True, text=True).stdout == "True\n"
    assert signal.getsignal(signal.SIGINT) is before


# -- the same outcome


@pytest.mark.parametrize("settings", [SENSITIVITY, LAYERWISE, STAGED], ids=["sensitivity", "by layer", "by stage"])
def test_the_outcome_is_that_of_one_process_to_the_bit_whatever_is_killed(
    settings: SearchSettings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    more = {"retrain": Part().retrain} if settings is LAYERWISE else {}
    alone = Part().run(settings, **more)
    assert len({e.loss for e in alone.evaluations}) > 5
    deadly = tmp_path / "deadly"
    deadly.touch()
    several = Workers(Part(deadly), 2)
    with caplog.at_level(logging.WARNING):
        assert equal(Part().run(settings, workers=several, **more), alone)
    assert several.speed.evaluations == sum(not e.cached for e in alone.evaluations)
    assert not deadly.exists() and "was killed; what it had begun is begun again" in caplog.text


class StopsAt(Watcher):
    def __init__(self, number: int) -> None:
        self.left = number

    def on_evaluation(self, record: Evaluation) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.parametrize("settings", [SENSITIVITY, LAYERWISE, STAGED], ids=["sensitivity", "by layer", "by stage"])
def test_an_interrupted_search_goes_on_with_another_number_of_processes(
    settings: SearchSettings, tmp_path: Path
) -> None:
    alone, ledger = Part().run(settings), tmp_path / "search.jsonl"
    with pytest.raises(Interrupted):
        Part().run(settings, watcher=StopsAt(3), ledger=ledger)
    assert equal(Part().run(settings, ledger=ledger, resume=True, workers=Workers(Part(), 3)), alone)
    events = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert sum(e["event"] == "evaluation" for e in events) == len(alone.evaluations)


@pytest.mark.parametrize("backend", ["ray", "dask"])
@pytest.mark.filterwarnings("ignore")  # theirs
def test_a_cluster_ends_with_the_same_whatever_is_killed(backend: str, tmp_path: Path) -> None:
    pytest.importorskip({"ray": "ray", "dask": "distributed"}[backend])
    alone, deadly = Part().run(SENSITIVITY), tmp_path / "deadly"
    deadly.touch()
    assert equal(Part().run(SENSITIVITY, workers=Workers(Part(deadly), 2, backend=backend)), alone)
    assert not deadly.exists()
    with pytest.raises(UsageError, match=r"^this fails$"):
        Part().run(STAGED, workers=Workers(Broken(), 2, backend=backend))
