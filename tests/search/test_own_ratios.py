"""Ratios of layers that the user names, and layers that are skipped by pattern and type."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from app_helpers import MODEL, app, refusal
from torch import Tensor, nn

from secateur import prune, trace
from secateur.pruners.budgets import Budget
from secateur.pruners.errors import BudgetError, UsageError
from secateur.pruners.layer_words import layers_named, nearest
from secateur.pruners.search.own_ratios import own_ratios


class Wide(nn.Conv2d):
    """A convolution of somebody's own."""


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(8, 10, 1)
        self.conv2 = Wide(10, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.conv1(x).relu())


class Net(nn.Module):
    """A stem and two blocks that add to what it makes, then a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.layer1 = nn.Sequential(Block(), Block())
        self.hidden = nn.Linear(8, 20)
        self.head = nn.Linear(20, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer1(self.stem(x)).mean((2, 3))
        return self.head(self.hidden(x).relu())


X = torch.zeros(1, 3, 4, 4)
LAYERS = ["stem", "layer1.0.conv1", "layer1.0.conv2", "layer1.1.conv1", "layer1.1.conv2", "hidden"]


def sizes(ratio: object) -> dict[str, int]:
    """How much of each width is left."""
    return {name: len(kept) for name, kept in prune(Net(), X, ratio=ratio).plan.kept.items()}


# -- refusals


@pytest.mark.parametrize(
    ("ratio", "said"),
    [
        ({"layr1.*": 0.5}, 'ratio={"layr1.*": 0.5}: there is no layer layr1.* whose channels could go; did you mean '
         "layer1? a pattern is a glob over names, which begin with stem, layer1, hidden"),
        ({"head": 0.5}, 'ratio={"head": 0.5}: there is no layer head whose channels could go'),
        ({"nn.Conv3d": 0.5}, "whose channels could go; did you mean nn.Conv2d?"),
        ({"hidden": 1.0}, 'ratio={"hidden": 1}: must lie between 0 and 1; 0.5 removes half, 0 none'),
        ({"hidden": -0.1}, 'ratio={"hidden": -0.1}: must lie between 0 and 1; 0.5 removes half, 0 none'),
        ({"*": 1.5, "hidden": 0.5}, "ratio=1.5: must lie between 0 and 1, both excluded"),
        ({}, "ratio=0: must lie between 0 and 1, both excluded"),
        ({"stem": 0.5, "layer1.1.conv2": 0.25}, 'conv2": 0.25}: stem and layer1.1.conv2 lose their chan'),
    ],
)  # fmt: skip
def test_ratios_that_can_not_be_kept_are_refused(ratio: dict[str, float], said: str) -> None:
    with pytest.raises(BudgetError) as caught:
        prune(Net(), X, ratio=ratio)
    assert said in str(caught.value)


def test_ratios_of_layers_are_for_one_search() -> None:
    with pytest.raises(UsageError, match=r'ratio={"hidden": 0.5} is for .*uniform.*, not global: leave one out'):
        prune(Net(), X, ratio={"hidden": 0.5}, search="global")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("layr1.*", "there is no layer layr1.* whose channels could be skipped; did you mean layer1?"),
        ("type:Blok", "could be skipped; did you mean type:Block?"),
        ("*.cnv2", "there is no layer *.cnv2 whose channels could be skipped"),
        ("nn.Linaer", "could be skipped; did you mean nn.Linear?"),
        ("type:ReLU", "could be skipped; there are nn.Conv2d, nn.Linear, nn.Sequential, type:Block, type:Wide"),
        ("nn.Wide", "could be skipped; did you mean type:Wide?"),
        ("type:Module", "there is no layer type:Module"),
    ],
)
def test_words_that_name_nothing_are_refused(word: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        trace(Net(), X, skip=["stem", word])
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--ratio", "=0.5"), "=0.5: write the layers before the sign, as in layer3.*=0.7"),
        (("--ratio", "conv1=half"), "conv1=half: write a number, as in 0.5, or one for some layers"),
        (("--ratio", "layer3.*:0.7"), "layer3.*:0.7: write a number, as in 0.5, or one for some layers"),
        (("--ratio", "0.5", "--ratio", "0.6"), "--ratio 0.5 and --ratio 0.6 are both of all layers: give one of them"),
        (("--ratio", "conv1=0.5", "--macs", "0.5"), "give one budget, not --macs and --ratio"),
        (("--ratio", "conv1=0.5", "--search", "global"), "--ratio conv1=0.5 is for --search uniform, not global"),
        (("--ratio", "conv9=0.5"), "--ratio conv9=0.5: there is no layer conv9 whose channels could go; did you mean"),
    ],
)
def test_words_of_the_command_line_are_refused(words: tuple[str, ...], said: str, here: Path) -> None:
    code, text = refusal("prune", "-q", *MODEL, *words)
    assert code == 2 and said in text


# -- what is meant


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("stem", ["stem"]),
        ("layer1.1", ["layer1.1.conv1", "layer1.1.conv2"]),
        ("layer1", LAYERS[1:5]),
        ("layer1.*", LAYERS[1:5]),
        ("*.conv2", ["layer1.0.conv2", "layer1.1.conv2"]),
        ("layer?.0", ["layer1.0.conv1", "layer1.0.conv2"]),
        ("*", LAYERS),
        ("nn.Linear", ["hidden"]),
        ("torch.nn.Conv2d", LAYERS[:5]),
        ("type:Conv2d", LAYERS[:5]),
        ("type:Wide", ["layer1.0.conv2", "layer1.1.conv2"]),
        ("type:Block", LAYERS[1:5]),
        ("layer", []),
        ("conv2", []),
    ],
)
def test_layers_that_a_word_names(word: str, meant: list[str]) -> None:
    assert layers_named(word, LAYERS, Net()) == meant
    if not meant:
        assert nearest(word, LAYERS, Net()).startswith("; did you mean ")


@pytest.mark.parametrize(
    ("ratio", "left"),
    [
        (0.5, [4, 5, 5, 10]),
        ({"hidden": 0.25}, [8, 10, 10, 15]),
        ({"*": 0.5, "hidden": 0.25}, [4, 5, 5, 15]),
        ({"hidden": 0.25, "*": 0.5}, [4, 5, 5, 15]),
        ({"*": 0.5, "layer1.*.conv1": 0.2, "layer1.1.*1": 0.0}, [4, 8, 10, 10]),
        ({"nn.Linear": 0.5}, [8, 10, 10, 10]),
    ],
)
def test_every_width_loses_the_ratio_of_its_layers(ratio: object, left: list[int]) -> None:
    assert sorted(sizes(ratio).items()) == sorted(zip(["stem", *LAYERS[1:4:2], "hidden"], left, strict=True))


def test_layers_that_go_along_are_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert sizes({"*.conv2": 0.25})["stem"] == 6
    assert "*.conv2=0.25 is of stem, too: they go together" in caplog.text
    graph = trace(Net(), X)
    budget = Budget("ratio", 0.5, (("stem", 0.25), ("*.conv2", 0.25)))
    assert own_ratios(budget, graph, Net()) == ({"stem": 0.25}, [])


def test_layers_are_skipped_by_pattern_and_type() -> None:
    assert [w.name for w in trace(Net(), X, skip=["*.conv1"]).widths] == ["stem", "hidden"]
    assert [w.name for w in trace(Net(), X, skip=["type:Block"]).widths] == ["hidden"]
    inner = trace(Net(), X, skip=["nn.Linear", "type:Wide"])
    assert [w.name for w in inner.widths] == ["layer1.0.conv1", "layer1.1.conv1"]


@pytest.mark.parametrize("text", ['ratio = [0.5, "conv1=0.2"]\n', '[prune.ratio]\n"*" = 0.5\nconv1 = 0.2\n'])
def test_ratios_come_from_a_file_and_stand_in_the_plan(here: Path, text: str) -> None:
    (here / "secateur.toml").write_text(text)
    done = app("prune", "-q", *MODEL)
    assert done.exit_code == 0, done.stderr
    plan = json.loads((here / "generated" / "small_ratio0.5_conv10.2" / "plan.json").read_text())
    assert plan["provenance"]["ratios"] == {"conv1": 0.2}
    assert app("apply", "generated/small_ratio0.5_conv10.2/plan.json", *MODEL[:2], "-o", "again").exit_code == 0
