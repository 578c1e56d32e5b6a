"""Objects that no literal says and that a constructor hands to its blocks: masks, tables, options, loggers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from source_helpers import assert_writes, load

from secateur.pruners.errors import SourceError
from secateur.pruners.slicing import slice_model
from secateur.pruners.source import Entry
from secateur.pruners.trace.trace import trace

BLOCK = '''
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, width, mask):
        super().__init__()
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        {keep}

    def forward(self, x):
        return x + self.mask.float().softmax(-1) @ self.down(self.up(x).relu())


class Net(nn.Module):
    def __init__(self, length=12, width=16):
        super().__init__()
        self.length = length
        self.inp, self.out = nn.Linear(8, width), nn.Linear(width, 5)
        {make}

    def window(self, size=2):
        place = torch.arange(self.length)
        return (place[:, None] - place[None]).abs() < size

    def forward(self, x):
        return self.out(self.blocks(self.inp(x)))
'''
PLAIN = "self.mask = mask"
UNSAVED = 'self.register_buffer("mask", mask, persistent=False)'


def _halved(net: str, folder: Path, *x: torch.Tensor) -> str:
    """What is written of ``Net`` with half of every width; it was run and compared."""
    torch.manual_seed(0)
    make = load(net, folder, "net").Net
    model = make().eval()
    graph = trace(model, x[0])
    kept = {w.name: list(range(w.size // 2)) for w in graph.widths if w.size > 1}
    sliced = slice_model(model, graph, kept, x[0])
    return assert_writes(sliced.model, Entry(make, {}, "Net"), folder, *x, rewrites=sliced.literals)


def _x() -> torch.Tensor:
    return torch.randn(2, 12, 8, generator=torch.Generator().manual_seed(1))


def test_a_random_mask_that_nothing_makes_again_is_refused(tmp_path: Path) -> None:
    make = "self.blocks = nn.Sequential(Block(width, torch.rand(12, 12)))"
    with pytest.raises(SourceError, match=r"self\.mask can't be written: a Tensor"):
        _halved(BLOCK.format(keep=PLAIN, make=make), tmp_path, _x())


@pytest.mark.parametrize("keep", [PLAIN, UNSAVED], ids=["as a plain attribute", "as a buffer that is not saved"])
@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        ("self.blocks = nn.Sequential(*[Block(width, self.window()) for _ in range(2)])", "(width, self.window()) for"),
        ("self.blocks = nn.Sequential(*[Block(width, self.window(i)) for i in (2, 5)])", "(width, self.window(i)) for"),
        ("mask = self.window(3)\n        self.blocks = nn.Sequential(Block(width, mask))", "mask = self.window(3)"),
        (
            "mask = torch.empty(length, length)\n        for i in range(length):\n            mask[i] = i * 0.1\n"
            "        self.blocks = nn.Sequential(Block(width, mask), Block(width, mask))",
            "for i in range(length):",
        ),
        (
            'self.register_buffer("far", torch.ones(length, length).triu(3), persistent=False)\n'
            "        self.blocks = nn.Sequential(Block(width, self.far), Block(width, 2 * self.far))",
            "Block(width, 2 * self.far)",
        ),
        ("self.blocks = nn.Sequential(Block(width, torch.eye(width)[:12, :12]))", "Block(8, torch.eye(16)[:12, :12])"),
    ],
    ids=["of a method", "of a method with the loop's number", "of a name", "of several statements", "of a buffer",
         "of an expression with a number that is gone"],
)  # fmt: skip
def test_a_mask_is_made_in_the_authors_words(keep: str, make: str, wanted: str, tmp_path: Path) -> None:
    text = _halved(BLOCK.format(keep=keep, make=make), tmp_path, _x())
    assert wanted in text
    assert keep in text


def test_options_and_loggers_go_through_several_constructors(tmp_path: Path) -> None:
    net = '''
import argparse
import logging
import torch
from torch import nn


class Inner(nn.Module):
    def __init__(self, width, options, log):
        super().__init__()
        self.conv, self.options, self.log = nn.Conv2d(width, width, 1), options, log

    def forward(self, x):
        self.log.debug("inner")
        return self.conv(x) * self.options.scale


class Block(nn.Module):
    def __init__(self, inp, oup, options, log):
        super().__init__()
        self.conv = nn.Conv2d(inp, oup, options.size, padding=options.size // 2)
        self.inner = Inner(oup, options, log)

    def forward(self, x):
        return self.inner(self.conv(x).relu())


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        options = argparse.Namespace(scale=2.0, size=3)
        self.log = logging.getLogger("net")
        self.a, self.b = Block(3, 16, options, self.log), Block(16, 24, options, self.log)
        self.fc = nn.Linear(24, 5)

    def forward(self, x):
        return self.fc(self.b(self.a(x)).mean((2, 3)))
'''
    text = _halved(net, tmp_path, torch.randn(2, 3, 8, 8))
    assert "options = argparse.Namespace(scale=2.0, size=3)" in text
    assert "nn.Conv2d(inp, oup, options.size, padding=options.size // 2)" in text
    assert "Block(3, 8, options, self.log)" in text


def test_a_list_that_a_helper_is_handed_is_not_indexed_at_once(tmp_path: Path) -> None:
    net = '''
from torch import nn



def head(widths, cin, more):
    layers = [nn.Conv2d(cin, widths[0], (3, 3), padding=(1, 1)), nn.ReLU(), nn.MaxPool2d((2, 2), (2, 2))]
    return nn.Sequential(*layers, nn.Conv2d(widths[0], widths[-1], more["size"]), nn.AvgPool2d(len(widths), 1))


class Net(nn.Module):
    def __init__(self, classes=4):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, (3, 3), padding=(1, 1)), nn.MaxPool2d(2, 2), nn.MaxPool2d(2))
        self.head = head([32, classes], 16, {"size": 1})

    def forward(self, x):
        return self.head(self.body(x)).mean((2, 3))
'''
    text = _halved(net, tmp_path, torch.randn(2, 3, 32, 32))
    assert "nn.Conv2d(3, 8, (3, 3), padding=(1, 1))" in text
    assert "nn.MaxPool2d(2, 2)" in text
    assert 'self.head = head([16, classes], 8, {"size": 1})' in text
    assert "][" not in text
    assert "None" not in text.split('"""')[2]


def test_a_size_for_every_axis_stays_one(tmp_path: Path) -> None:
    net = '''
from torch import nn



class Block(nn.Module):
    def __init__(self, inp, oup, kernel_size):
        super().__init__()
        self.kernel_size = kernel_size
        self.conv = nn.Conv2d(inp, oup, kernel_size, padding=(kernel_size[0] // 2, kernel_size[1] // 2))

    def forward(self, x):
        return self.conv(x).relu()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = Block(3, 16, (3, 3)), Block(16, 24, (1, 3))
        self.fc = nn.Linear(24, 5)

    def forward(self, x):
        return self.fc(self.b(self.a(x)).mean((2, 3)))
'''
    text = _halved(net, tmp_path, torch.randn(2, 3, 8, 8))
    assert "nn.Conv2d(inp, oup, kernel_size, padding=(kernel_size[0] // 2, kernel_size[1] // 2))" in text
    assert "Block(3, 8, (3, 3))" in text
    assert "self.kernel_size = kernel_size" in text


HEAD = "from torch import nn\n\n\n"
BRANCH = '''class Branch(nn.Module):
    def __init__(self, width, depth):
        super().__init__()
        self.convs = []
        for i in range(depth):
            conv = nn.Conv2d(width, width, 3, padding=1)
            self.add_module(f"conv{i}", conv)
            self.convs.append(conv)

    def forward(self, x):
        for conv in self.convs:
            x = conv(x).relu()
        return x


'''
NET = '''class Net(nn.Module):
    def __init__(self):
        super().__init__()
        {layers}
        self.fc = nn.Linear(24, 5)

    def forward(self, x):
        {run}
        return self.fc(x.mean((2, 3)))
'''


def test_layers_that_are_not_registered_are_refused_by_name(tmp_path: Path) -> None:
    net = HEAD + NET.format(
        layers="self.hidden = [nn.Conv2d(3, 3, 1)]\n        self.conv = nn.Conv2d(3, 24, 3)",
        run="x = self.conv(self.hidden[0](x))",
    )
    with pytest.raises(SourceError, match=r"net_\d+\.py:4: Net\.hidden holds a Conv2d that is not registered"):
        _halved(net, tmp_path, torch.randn(2, 3, 8, 8))


TWO = "nn.Conv2d(3, 16, 3), nn.Conv2d(16, 24, 3)"


@pytest.mark.parametrize(
    ("layers", "run", "wanted"),
    [
        (
            'self.convs = {}\n        self.convs["low"], self.convs["high"] = ' + TWO
            + "\n        self.net = nn.ModuleList(self.convs.values())",
            'x = self.convs["high"](self.convs["low"](x).relu()).relu()',
            'self.convs = {"low": self.net[0], "high": self.net[1]}',
        ),
        (
            f"self.net = nn.ModuleList([{TWO}])\n        self.pairs = [(i, layer) for i, layer in enumerate(self.net)]",
            "for _, layer in self.pairs:\n            x = layer(x).relu()",
            "self.pairs = [(i, layer) for i, layer in enumerate(self.net)]",
        ),
        (
            f"self.a, self.b = {TWO}\n" '        self.steps = {1: (self.a, nn.ReLU()), 2: [self.b]}',
            "x = self.steps[2][0](self.steps[1][1](self.steps[1][0](x)))",
            "self.steps = {1: (self.a, nn.ReLU()), 2: [self.b]}",
        ),
    ],
    ids=["in a dict, and in a ModuleList made of it", "in a list made of a ModuleList", "in tuples by number"],
)  # fmt: skip
def test_layers_are_kept_besides(layers: str, run: str, wanted: str, tmp_path: Path) -> None:
    assert wanted in _halved(HEAD + NET.format(layers=layers, run=run), tmp_path, torch.randn(2, 3, 8, 8))


def test_lists_of_layers_that_are_not_equally_long(tmp_path: Path) -> None:
    layers = "self.stem, self.a, self.b = nn.Conv2d(3, 24, 3), Branch(24, 1), Branch(24, 3)"
    net = HEAD + BRANCH + NET.format(layers=layers, run="x = self.b(self.a(self.stem(x)))")
    text = _halved(net, tmp_path, torch.randn(2, 3, 8, 8))
    assert "self.convs = convs" in text


def test_lists_of_layers_with_names_of_their_own(tmp_path: Path) -> None:
    branch = BRANCH.replace('f"conv{i}"', '("first", "second", "third")[i]')
    layers = "self.stem, self.a, self.b = nn.Conv2d(3, 24, 3), Branch(24, 1), Branch(24, 2)"
    net = HEAD + branch + NET.format(layers=layers, run="x = self.b(self.a(self.stem(x)))")
    text = _halved(net, tmp_path, torch.randn(2, 3, 8, 8))
    assert 'self.convs = [getattr(self, name) for name in ("first", "second") if hasattr(self, name)]' in text
