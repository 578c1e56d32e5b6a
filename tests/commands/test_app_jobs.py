"""``--jobs``: candidates are judged in several processes, and the bundle is the one that one process makes."""

from __future__ import annotations

import importlib.util
import json
import socket
import time
from pathlib import Path

import pytest
import torch
from app_helpers import MODEL, app, refusal

from secateur import prune
from secateur.models.cifar.lenet5 import lenet5
from secateur.pruners.errors import UsageError

WORDS = ("prune", *MODEL, "--data", "digits", "--final-epochs", "0", "--device", "cpu", "-q")


def test_refusals(here: Path) -> None:
    code, line = refusal(*WORDS, "--jobs", "2", "--search", "bayesian", "--stop-early")
    assert code == 2 and "--stop-early holds every candidate against the one before it: give it without --jobs" in line
    assert "0 is not in the range" in refusal(*WORDS, "--jobs", "0")[1]
    code, line = refusal(*WORDS, "--address", "host:1")
    assert code == 2 and "--address host:1: say of what, --backend ray or dask" in line
    with pytest.raises(UsageError, match="jobs=0: must be 1 or more"):
        prune(lenet5(), torch.zeros(1, 1, 28, 28), ratio=0.5, jobs=0)
    losses = (float(n) for n in range(99))
    evaluate = lambda model: (next(losses), 0.0)  # noqa: E731
    with pytest.raises(UsageError, match=r"jobs=2: what judges candidates can't be pickled: .*generator"):
        prune(lenet5(), torch.zeros(1, 1, 28, 28), search="bayesian", evaluate=evaluate, jobs=2)


@pytest.mark.parametrize("backend", ["ray", "dask"])
def test_a_cluster_is_looked_for_before_the_work(backend: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    words = (*WORDS, "--backend", backend)
    assert "say how many processes it is to run, --jobs N" in refusal(*words)[1]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert f"it isn't installed; pip install 'secateur[{backend}]'" in refusal(*words, "--jobs", "2")[1]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    started = time.monotonic()
    code, line = refusal(*words, "--jobs", "2", "--address", address)
    assert code == 2 and f"--address {address}: nobody answers there (" in line
    assert time.monotonic() - started < 5 and not (here / "generated").exists()
    assert "--address cluster: write HOST:PORT" in refusal(*words, "--jobs", "2", "--address", "cluster")[1]


def test_the_bundle_is_that_of_one_process(here: Path) -> None:
    for jobs in (1, 2):
        result = app(*WORDS, "--macs", "0.5", "--calibration", "128", "--jobs", str(jobs), "-o", f"out{jobs}")
        assert result.exit_code == 0, result.stderr
    first, second = (
        [{**json.loads(line), "seconds": 0} for line in (here / f"out{n}" / "search.jsonl").read_text().splitlines()]
        for n in (1, 2)
    )
    assert first == second and len(first) > 8
    plans = [json.loads((here / f"out{n}" / "plan.json").read_text())["widths"] for n in (1, 2)]
    assert plans[0] == plans[1]


def test_python_has_jobs_too() -> None:
    torch.manual_seed(0)
    model, batches = lenet5(), list(torch.randn(64, 1, 28, 28).split(32))
    how = {"macs": 0.5, "search": "sensitivity", "batches": batches, "transfer": "lstsq"}
    plans = [prune(model, batches[0][:1], jobs=jobs, **how).plan for jobs in (1, 2)]
    assert plans[0].widths == plans[1].widths
