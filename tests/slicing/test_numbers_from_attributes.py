"""Numbers that an expression computes from an attribute, as ``self.width // 2`` is: the attribute follows."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

from secateur.pruners.slicing import SlicedModel, slice_model
from secateur.pruners.trace.trace import trace

NET = '''
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.width, self.half = width, width // 2
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.inner = nn.Conv2d(width // 2, width // 2, 3, padding=1)
        self.head = nn.Linear(width // 2, 10)

    def forward(self, x):
        x = self.first(x).relu()
        {part}
        return self.head(self.inner(part).relu().mean((2, 3)))
'''


def _halved(part: str, folder: Path, text: str = NET) -> SlicedModel:
    path = folder / "net.py"
    path.write_text(text.format(part=part))
    spec = importlib.util.spec_from_file_location("net", path)
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model, x = module.Net().eval(), torch.randn(2, 3, 8, 8)
    graph = trace(model, x)
    kept = {w.name: list(range(w.size // 2)) for w in graph.widths if w.size > 1}
    return slice_model(model, graph, kept, x)


@pytest.mark.parametrize(
    "part",
    [
        "part = torch.split(x, self.width // 2, dim=1)[1]",
        "c = self.width\n        part = torch.split(x, c // 2, dim=1)[1]",
        "half = self.width // 2\n        part = x[:, :half] + x[:, half:]",
        "c = self.width\n        half = c // 2\n        part = x.narrow(1, 0, half) * x.narrow(1, half, half)",
        "part = x.view(x.shape[0], 2, self.width // 2, 8, 8).sum(1)",
    ],
)
def test_the_attribute_follows_and_no_expression_changes(part: str, tmp_path: Path) -> None:
    sliced = _halved(part, tmp_path)
    assert sliced.runs
    assert sliced.model.width == sliced.model.first.out_channels == 16
    assert sliced.model(torch.randn(2, 3, 8, 8)).shape == (2, 10)


def test_a_name_that_is_assigned_twice_is_not_followed_to_an_attribute(tmp_path: Path) -> None:
    part = "c = self.width\n        c = c - 16\n        part = x[:, :c] + x[:, c:]"
    sliced = _halved(part, tmp_path)
    assert not sliced.runs
    assert [set(site.values.values()) for site in sliced.literals] == [{8}, {8}]


@pytest.mark.parametrize(
    "start",
    [
        "return torch.zeros(x.shape[0], self.width, *x.shape[2:])",
        "return x.new_zeros([x.size(0), self.width] + list(x.shape[2:]))",
        "size = (len(x), self.width) + x.shape[2:]\n        return torch.zeros(size)",
        "size = [len(x), self.width] + list(x.shape)[2:]\n        return torch.zeros(size)",
    ],
)
def test_a_method_that_is_called_from_outside_reads_the_width_of_its_own_module(start: str, tmp_path: Path) -> None:
    """Recurrent cells make their first state so, each of its own width, by a call of the network."""
    cells = """self.cells = nn.ModuleList([Cell(32, 16), Cell(16, 8)])
        self.head = nn.Linear(8, 10)
"""
    text = NET.replace("class Net", CELL.replace("START", start) + "class Net")
    text = text.replace("self.head(self.inner(part)", "self.head(x")
    text = text.replace("self.head = nn.Linear(width // 2, 10)\n", cells)
    part = "for cell in self.cells:\n            x = cell(x, cell.start(x))"
    sliced = _halved(part, tmp_path, text)
    assert sliced.runs
    assert [cell.width for cell in sliced.model.cells] == [8, 4]


CELL = """class Cell(nn.Module):
    def __init__(self, before, width):
        super().__init__()
        self.width, self.layer = width, nn.Conv2d(before + width, width, 1)

    def start(self, x):
        START

    def forward(self, x, state):
        return state + self.layer(torch.cat([x, state], 1))


"""
