"""Written constructors read as a person would have written them."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from secateur.pruners.entry import Entry
from secateur.pruners.source.writer import Written, write

BLOCKS = '''import torch
from torch import nn


class Unit(nn.Module):
    def __init__(self, width, growth, c_):
        super().__init__()
        self.one = nn.Linear(width, c_)
        self.two = nn.Linear(c_, growth)
        self.spread = nn.Upsample(scale_factor=2)
        self.size = c_

    def extra_repr(self):
        return f"{self.size}"

    def forward(self, x):
        return torch.cat([x, self.two(self.one(x))], 1)


class Chain(nn.Module):
    def __init__(self, width, growth):
        super().__init__()
        self.unit1 = Unit(width, growth, growth)
        self.unit2 = Unit(width + growth, growth, growth)

    def forward(self, x):
        return self.unit2(self.unit1(x))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = Chain(3, 8), Chain(19, 8)

    def forward(self, x):
        return self.b(self.a(x))
'''

CHOICE = '''from torch import nn


def rounded(width, by):
    return max(by, int(width + by / 2) // by * by)


class Net(nn.Module):
    def __init__(self, mult=1.0):
        super().__init__()
        width = rounded(24 * mult, 4 if mult == 0.1 else 8)
        self.first = nn.Linear(3, width)
        self.last = nn.Linear(width, 5)

    def forward(self, x):
        return self.last(self.first(x))
'''


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Callable[[str, str], nn.Module]]:
    def load(name: str, text: str) -> nn.Module:
        (tmp_path / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        network: nn.Module = importlib.import_module(name).Net()
        return network

    sys.path.insert(0, str(tmp_path))
    yield load
    sys.path.remove(str(tmp_path))


def narrowed(net: nn.Module) -> Written:
    """Two chains of two units, in which every width is another one."""
    width = 3
    for chain, sizes in (("a", [(2, 5), (3, 6)]), ("b", [(4, 7), (1, 9)])):
        for unit, (inner, growth) in zip(net.get_submodule(chain).children(), sizes, strict=True):
            unit.one, unit.two = nn.Linear(width, inner), nn.Linear(inner, growth)
            width += growth
    return write(net, Entry(type(net), name="Net"), example=torch.zeros(2, 3))


def test_a_method_that_goes_is_told_where_torch_has_one_of_its_name(made: Callable[[str, str], nn.Module]) -> None:
    written = narrowed(made("style_told", BLOCKS))
    assert ("extra_repr" in written.text) is ("Unit.extra_repr" not in written.lost)


def test_widths_of_numbered_blocks_are_named_alike(made: Callable[[str, str], nn.Module]) -> None:
    text = narrowed(made("style_blocks", BLOCKS)).text
    chain = text.split("class Chain")[1].split("class Net")[0]
    names = set(re.findall(r"\w+", chain.split("def __init__(")[1].split(")")[0]))
    assert names == {"self", "width", "unit1_growth", "unit1_c", "unit2_growth", "unit2_c"}
    assert "Unit(width + unit1_growth, unit2_growth, unit2_c)" in chain
    assert "scale_factor=2)" in text


def test_a_choice_between_equal_numbers_is_none(made: Callable[[str, str], nn.Module]) -> None:
    net = made("style_choice", CHOICE)
    net.first, net.last = nn.Linear(3, 12), nn.Linear(12, 5)
    assert "width = rounded(12 * mult, 4)\n" in write(net, Entry(type(net), name="Net")).text
