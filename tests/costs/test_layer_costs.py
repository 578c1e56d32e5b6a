"""Costs predicted layer by layer, against those counted on the pruned network, and the author's text of it."""

from __future__ import annotations

import inspect

import pytest
import torch
from forms import written
from torch import nn

from secateur.models.registry import create
from secateur.pruners.base import BasicPruning
from secateur.pruners.costs import profile
from secateur.pruners.source import Entry, authors_texts

BLOCKS = """
def twice(x):
    return 2 * x


class Base(nn.Module):
    def forward(self, x):
        return self.b(self.norm(self.a(x)).relu()) + x


class Block(Base):
    def __init__(self, width):
        super().__init__()
        self.b = nn.Conv2d(width, width, 1)
        self.a = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, 8, 1, 1))
        self.stem = nn.Conv2d(3, 8, 3)
        self.block = Block(8)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        return self.fc((self.block(twice(self.stem(x))) * self.scale).mean((2, 3)))
"""


def half_of(pruner: BasicPruning) -> dict[str, range]:
    return {w.name: range(w.size // 2) for w in pruner.graph.widths}


def pruner_of(folder) -> BasicPruning:
    module = written(folder, BLOCKS)
    return BasicPruning(module.Net(), torch.randn(2, 3, 8, 8), entry=Entry(module.Net, {}, "Net", "it"))


def test_layers_are_in_forward_order_and_norms_follow_what_they_normalise(tmp_path):
    assert list(pruner_of(tmp_path).costs.layers({})) == [
        "scale", "stem", "block.a", "block.norm", "block.b", "fc"
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["lenet5", "resnet20", "mobilenetv2"])
def test_costs_of_layers_are_those_that_are_counted(name):
    pruner = BasicPruning(create(name), torch.zeros(1, *((1, 28, 28) if name == "lenet5" else (3, 32, 32))))
    kept = half_of(pruner)
    counted = {r.name: (r.params, r.macs) for r in profile(pruner.realize(kept), pruner.example_input, 1)}
    predicted = pruner.costs.layers(kept)
    assert predicted == {name: costs for name, costs in counted.items() if any(costs)}
    total = pruner.predict(kept)
    assert tuple(map(sum, zip(*predicted.values(), strict=True))) == (total.params, total.macs)


def test_the_authors_text_is_found_for_classes_and_what_they_call(tmp_path):
    pruner = pruner_of(tmp_path)
    text = pruner.source(pruner.plan(half_of(pruner)))
    found = {t["name"]: t for t in authors_texts(pruner.model, pruner.entry.factory, text)}
    assert {"Net", "Block", "Base", "twice"} <= {*found}
    assert found["Block"]["text"] == inspect.getsource(type(pruner.model.block))
    assert found["twice"]["file"] == "author.py"


def test_what_the_author_did_not_write_has_no_text():
    [new] = authors_texts(nn.Linear(2, 2), nn.Linear, "class Unheard(object):\n    pass\n")
    assert new == {"name": "Unheard", "file": "", "text": ""}
