"""``--weights`` from the command line: which are taken, and what may lie beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from app_helpers import MODEL, app, refusal
from script_settings import Settings
from torch import nn


class Like(nn.Module):
    """Has the names and sizes of ``own_small.py``'s network."""

    def __init__(self, seed: int, num_classes: int = 10) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv1 = nn.Conv2d(1, 6, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 8, 3)
        self.fc = nn.Linear(8, num_classes)


NAME = f"{Settings.__module__}.Settings"


@pytest.fixture
def weights(here: Path) -> Path:
    """Trained ones, their average, and a script's settings beside them."""
    trained, average = Like(1).state_dict(), Like(2).state_dict()
    torch.save({"state_dict": trained, "state_dict_ema": average, "settings": Settings()}, here / "w.pth")
    return here / "w.pth"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("inspect", *MODEL, "--ema"), "--ema says how --weights FILE is read: add it"),
        (("inspect", *MODEL, "--allow-class", "a.B"), "--allow-class says how --weights FILE is read: add it"),
        *(
            (
                ("inspect", *MODEL, "--weights", "w.pth", "--allow-class", name),
                f"--allow-class {name}: write the class with its module, as in omegaconf.DictConfig",
            )
            for name in ("Settings", "a..B", "a b.C", "a.py:B")
        ),
        (("prune", *MODEL, "--ratio", "0.5", "--weights", "w.pth"), f"--allow-class {NAME}"),
        (("profile", *MODEL, "--weights", "w.pth", "--allow-class", "another.Settings"), f"--allow-class {NAME}"),
        (("evaluate", *MODEL, "--weights", "plain.pth", "--ema"), "plain.pth holds no averaged weights (EMA) that fit"),
        (("inspect", *MODEL, "--weights", "many.pth"), "10x8 in the network; add --model-arg num_classes=7"),
    ],
)
def test_refusals(words: tuple[str, ...], said: str, weights: Path) -> None:
    torch.save(Like(1).state_dict(), "plain.pth")
    torch.save({"state_dict": {f"net.{k}": v for k, v in Like(1, 7).state_dict().items()}}, "many.pth")
    code, text = refusal(*words)
    assert code == 2 and said in text
    assert len(text.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("ema", "told"),
    [
        ((), "w.pth: the weights are those under 'state_dict', --ema takes the averaged ones under 'state_dict_ema'"),
        (("--ema",), "w.pth: the weights are those under 'state_dict_ema', they are averaged ones (EMA), not those "
                     "under 'state_dict'"),
    ],
    ids=["trained", "averaged"],
)  # fmt: skip
def test_what_is_pruned_is_what_was_asked_for(ema: tuple[str, ...], told: str, weights: Path) -> None:
    source = Like(2 if ema else 1).state_dict()
    words = ("--weights", "w.pth", *ema, "--allow-class", NAME)
    result = app("prune", *MODEL, *words, "--ratio", "0.5", "--skip", "conv1", "-o", "half")
    assert result.exit_code == 0, result.stderr
    assert told in result.stderr
    assert torch.equal(torch.load("half/weights.pth", weights_only=True)["conv1.weight"], source["conv1.weight"])
    again = app("apply", "half/plan.json", *MODEL[:2], "--allow-class", NAME, "-o", "again")
    assert again.exit_code == 0, again.stderr
    assert Path("again/weights.pth").read_bytes() == Path("half/weights.pth").read_bytes()
    facts = json.loads(Path("half/plan.json").read_text())["provenance"]
    assert facts.get("ema", False) == bool(ema)
    assert Settings.read == []
