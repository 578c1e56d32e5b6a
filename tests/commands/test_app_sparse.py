"""``train --sparsify``: what is refused before the work, and a network that prune then finds sparse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from app_helpers import app, refusal

from secateur.training.data import load_data, number_of_steps

TRAIN = ("train", "--model", "own_small.py:small", "--data", "digits", "-o", "w.pt", "-q")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sparsity", "0.1"], "--sparsity says how hard --sparsify pushes: add --sparsify bn or --sparsify group"),
        (["--sparsify", "bn", "--sparsity", "0"], "--sparsity 0: must be a number above 0"),
        (["--sparsify", "bn", "--sparsity=-1e-4"], "--sparsity -0.0001: must be a number above 0"),
        (["--sparsify", "group", "--sparsity", "nan"], "--sparsity nan: must be a number above 0"),
        (["--sparsify", "group", "--sparsity", "inf"], "--sparsity inf: must be a number above 0"),
    ],
    ids=["a strength alone", "no strength", "a strength below 0", "no number", "infinite"],
)
def test_strengths_are_refused_before_the_work(here: Path, arguments: list[str], message: str) -> None:
    assert refusal(*TRAIN, *arguments) == (2, f"error: {message}")


@pytest.mark.parametrize(
    ("network", "kind", "message"),
    [
        ([], "bn", "the channels that may go have no scales of batch norms"),
        (["--network", "XnorNet"], "bn", "XnorNet takes the signs of what its norms scale, and signs have no size"),
        (["--network", "BWN"], "group", "BWN computes with few bits of its weights, however small they are"),
    ],
    ids=["no batch norms", "signs of activations", "signs of weights"],
)
def test_what_makes_no_sense_is_refused(here: Path, network: list[str], kind: str, message: str) -> None:
    said = refusal("train", "--arch", "lenet5", *network, "--sparsify", kind, "-o", "w.pt", "-q")
    assert said == (2, f"error: --sparsify {kind}: {message}")
    assert not list(here.glob("w.pt*"))


def test_a_sparse_network_is_pruned_where_it_is_sparse(here: Path) -> None:
    trained = app(*TRAIN, "--epochs", "2", "--sparsify", "bn", "--sparsity", "0.5", "--json")
    assert trained.exit_code == 0, trained.stderr
    told = json.loads(trained.stdout)
    assert told["sparsity"] == {"kind": "bn", "strength": 0.5, "sparse": told["sparsity"]["sparse"], "groups": 6}
    assert told["best_epoch"] == told["epochs"] == 2
    pruned = app(
        "prune", "--model", "own_small.py:small", "--input-shape", "1,8,8", "--weights", "w.pt", "--ratio", "0.5",
        "--metric", "bn_scale", "-o", "half", "-q",
    )  # fmt: skip
    assert pruned.exit_code == 0, pruned.stderr


def test_the_strength_follows_from_the_number_of_steps(here: Path) -> None:
    trained = app(*TRAIN, "--epochs", "1", "-b", "100", "--sparsify", "group", "--json")
    told = json.loads(trained.stdout)["sparsity"]
    assert told["strength"] == pytest.approx(0.2 / number_of_steps(len(load_data("digits").train), 100))
    assert told["groups"] == 14
