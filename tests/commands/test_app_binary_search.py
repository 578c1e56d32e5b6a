"""The search of the binary networks on the command line: size's default weight, zeros, soft orthogonality."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from app_helpers import app, refusal

from secateur.commands.cli import PruneOptions
from secateur.commands.prune import settings_from


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--mode", "zeroout"), "unknown mode 'zeroout', did you mean 'zeroOut'? known are prune, zeroOut"),
        (("--alpha", "-2"), "alpha -2.0: must be a number that is 0 or more"),
    ],
)
def test_refused_in_one_line(words: tuple[str, ...], message: str) -> None:
    assert refusal("prune", "--arch", "lenet5", *words) == (2, f"error: {message}")


@pytest.mark.parametrize(
    ("kind", "more", "alpha"),
    [
        (None, {}, 1.0),
        ("BinaryNet", {}, 1.0),
        ("BinaryNet", {"first_layer": "binary"}, 1.0),
        ("BinaryNet", {"first_layer": "binary", "last_layer": "binary"}, 2.0),
        ("BinaryConnect", {}, 2.0),
        ("DoReFa", {}, 7.0),
        ("XnorNet", {}, 5.0),
        ("XnorNet", {"alpha": 0.5}, 0.5),
    ],
)
def test_how_much_size_weighs_follows_the_kind(kind: str | None, more: dict[str, object], alpha: float) -> None:
    assert settings_from(PruneOptions(arch="lenet5", network=kind, **more)).alpha == alpha  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["prune", "zeroOut"])
def test_a_binary_network_is_searched_with_the_original_objective(here: Path, mode: str) -> None:
    made = app("train", "--arch", "lenet5", "--network", "XnorNet", "--epochs", "1", "-o", "start.pt")
    assert made.exit_code == 0, made.output
    words = ("--metric", "angle", "--mode", mode, "--retrain-epochs", "1", "--final-epochs", "1", "-o", "out")
    given = ("prune", "--arch", "lenet5", "--network", "XnorNet", "--data", "digits", "--weights", "start.pt")
    result = app(*given, *words, "--beta", "0.001", "--alpha", "5", "--direction", "top-down")
    assert result.exit_code == 0, result.output
    plan = json.loads(Path("out/plan.json").read_text())["provenance"]
    assert (plan["alpha"], plan["beta"], plan["mode"], plan["direction"]) == (5, 0.001, mode, "top-down")
    events = [json.loads(line) for line in Path("out/search.jsonl").read_text().splitlines()]
    tried = [e for e in events if e.get("event") == "evaluation"]
    for e in tried:
        assert e["objective"] == pytest.approx(-(e["loss"] + 5 * (e["params"] + e["bits"] / 4)))
    assert json.loads(Path("out/summary.json").read_text())["verified"] is True
    assert all(t.isfinite().all() for t in torch.load("out/weights.pth", weights_only=True).values())
