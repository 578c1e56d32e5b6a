"""``--transfer heal`` and ``--data synthetic``: weights made better without labels, or without data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from app_helpers import MODEL, NETWORK, app, refusal

from secateur import prune
from secateur.models.cifar.lenet5 import lenet5
from secateur.pruners.bundle import Bundle
from secateur.pruners.errors import UsageError

DATA = (*MODEL, "--data", "digits")
OUT = ("--ratio", "0.5", "-o", "out")
WITHOUT_INPUT_SHAPE = MODEL[:2]


@pytest.fixture
def own(here: Path) -> Path:
    (here / "own_small.py").write_text(NETWORK)
    return here


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*MODEL, *OUT, "--heal", "3m"), "--transfer heal looks at images: add --data, or use --transfer slice"),
        (
            (*WITHOUT_INPUT_SHAPE, *OUT, "--data", "digits", "--heal", "3m", "--calibration", "8"),
            "--calibration 8: --transfer heal needs 16 or more",
        ),
        (
            ("--arch", "lenet5", "--data", "synthetic", "--search", "bayesian", *OUT[2:]),
            "--search bayesian needs labels",
        ),
    ],
    ids=["without images", "from too few images", "a search that needs labels"],
)
def test_it_is_refused(own: Path, words: tuple[str, ...], said: str) -> None:
    code, message = refusal("prune", *words, "-q")
    assert code == 2
    assert message.splitlines()[-1].startswith(f"error: {said}")
    assert not (own / "out").exists()


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_synthetic_inputs_are_for_prune_alone(own: Path, command: str) -> None:
    code, message = refusal(command, *MODEL, "--data", "synthetic", "-q")
    assert code == 2
    assert "synthetic" in message.splitlines()[-1]


def test_a_network_is_healed_and_the_summary_tells_how(own: Path) -> None:
    done = app("prune", *WITHOUT_INPUT_SHAPE, "--data", "digits", *OUT, "--heal", "1s", "--final-epochs", "0", "--json")
    assert done.exit_code == 0, done.output
    bundle = Bundle.open(own / "out")
    facts = bundle.summary["transfer"]
    assert facts["name"] == "heal"
    assert facts["healed"]["after"] <= facts["healed"]["before"]
    assert facts["healed"]["timed"]
    assert (facts["images"], facts["healed"]["inputs"], facts["healed"]["held_out"]) == (896, 1024, 128)
    assert (bundle.plan.provenance["transfer"], bundle.plan.provenance["heal"]) == ("heal", 1.0)


def test_a_network_is_fitted_without_data(own: Path) -> None:
    done = app("prune", *MODEL, "--data", "synthetic", "--calibration", "32", *OUT, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["transfer"]["images"] == 32
    assert "inputs are synthetic: such that batch norms see what they remember" in told["notes"]
    assert "agreement" not in told
    assert told["accuracy"]["pruned"] is None
    again = app("prune", *MODEL, "--data", "synthetic", "--calibration", "32", *OUT, "--force", "--json")
    assert json.loads(again.stdout)["transfer"] == told["transfer"]


def test_python_takes_the_seconds() -> None:
    torch.manual_seed(0)
    images, model = torch.randn(64, 1, 28, 28), lenet5().eval()
    with pytest.raises(UsageError, match=r'^heal= is for transfer="heal", and transfer="bn" doesn.t train'):
        prune(model, images[:1], ratio=0.5, transfer="bn", heal=3.0, batches=[images])
    with pytest.raises(UsageError, match=r"^heal=0: must be a time in seconds"):
        prune(model, images[:1], ratio=0.5, heal=0.0, batches=[images])
    bundle = prune(model, images[:1], ratio=0.5, heal=0.5, batches=[images])
    assert bundle.summary["transfer"]["healed"]["inputs"] == 64
    assert bundle.plan.provenance["transfer"] == "heal"
