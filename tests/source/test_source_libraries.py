"""Networks that use an installed library: what doesn't change is imported, what changes is taken over."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from source_helpers import assert_same_network, load
from torch import nn

from secateur.pruners.source import Entry, write_source

LIBRARY = '''
"""A library of layers."""
import torch
from torch import nn
from . import parts
from .tools import half, known, register

class Recipe:
    def __init__(self, text):
        self.parts = text.split()

class Swap(nn.Module):
    def __init__(self, pattern, **sizes):
        super().__init__()
        self._recipe = {"any": Recipe(pattern)}
        self._sizes = sizes

    def forward(self, x):
        return x.transpose(*map(int, self._recipe["any"].parts))

class Drop(nn.Module):
    def __init__(self, rate=0.0):
        super().__init__()
        self.rate = rate

    def forward(self, x):
        return nn.functional.dropout(x, self.rate, self.training)

class Norm(nn.LayerNorm):
    def forward(self, x):
        return super().forward(x.transpose(1, -1)).transpose(1, -1)

@register
class Mlp(nn.Module):
    def __init__(self, dim, hidden, rate=0.0):
        super().__init__()
        self.up = nn.Linear(dim, hidden)
        self.drop = Drop(rate)
        self.down = nn.Linear(hidden, dim)
        self.size = len(known)

    def forward(self, x):
        return half(self.down(self.drop(self.up(x).relu())))

def count(model):
    return sum(isinstance(m, Mlp) for m in model.modules())
'''
TOOLS = """
known = {}

def register(cls):
    known[cls.__name__] = cls
    return cls

def half(x):
    return x / 2
"""
PARTS = """
import torch
from torch import nn

class Part(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.up = nn.Linear(dim, hidden)
        self.spare = nn.Linear(dim, hidden)

class Plain(nn.Module):
    def forward(self, x):
        return x.relu()

class Scale(nn.Module):
    def __init__(self, dim, power=1, device=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim, device=device))
        self.power = power

    def forward(self, x):
        return x * self.weight**self.power

class Head(nn.Module):
    def __init__(self, dim, layer, others=()):
        super().__init__()
        self.scales = nn.Sequential(*(kind(dim, device=None) for kind in (layer, *others)))

    def forward(self, x):
        return self.scales(x)

class Placed(nn.Module):
    def __init__(self, dim, hidden, size):
        super().__init__()
        size = (size, size)
        self.size = size
        self.up = nn.Linear(dim, hidden)
        self.down = nn.Linear(hidden, dim)
        self.register_buffer("index", torch.empty(size[0] * size[1], dtype=torch.long), persistent=False)
        self.fill()

    def fill(self):
        self.index.copy_(torch.arange(self.size[0] * self.size[1]).flip(0))

    def forward(self, x):
        return self.down(self.up(x)) + self.index[0]

class Strided:
    def __init__(self):
        self._stride, self._times = 1, 1

    @property
    def stride(self):
        return self.full() // 2

    def full(self):
        return self._stride * self._times

class Encoder(nn.Module, Strided):
    def __init__(self, dim, hidden, stride):
        super().__init__()
        self._stride = stride
        self._times = 2
        self.up = nn.Linear(dim, hidden)
        self.down = nn.Linear(hidden, dim)

    def forward(self, x):
        return self.down(self.up(x))
"""
PLACED = """
from torch import nn
from {name}.parts import Placed

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.mlp = Placed(6, 8, 9)
        self.other = Placed(6, 8, 10)

    def forward(self, x):
        return self.other(self.mlp(x))
"""
HANDED = """
from functools import partial
from torch import nn
from {name}.parts import Head, Scale

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = Scale(6)
        self.head = Head(6, {handed})

    def forward(self, x):
        return self.head(self.first(x))
"""
ENCODER = """
from torch import nn
from {name}.parts import Encoder

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.mlp = Encoder(6, 8, 3)

    def forward(self, x):
        return self.mlp(x)[:, :: self.mlp.stride]
"""
DOTTED = """
import {name}
from torch import nn

class Own({name}.parts.Part):
    def __init__(self):
        super().__init__(6, 8)
        del self.spare
        self.act = {name}.parts.Plain()

    def forward(self, x):
        return self.act(self.up(x))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.own = Own()

    def forward(self, x):
        return self.own(x)
"""
DETECTOR = """
import torch
from torch import nn

ROWS = [(-1, "Conv", 6), (-1, "Conv", 8), (-1, "Half", 0), ([-1, 1], "Join", 0), ([0, 2], "Boxes", 3)]

class Conv(nn.Module):
    default = nn.SiLU()

    def __init__(self, given, width):
        super().__init__()
        self.conv = nn.Conv2d(given, width, 3, padding=1)
        self.act = self.default

    def forward(self, x):
        return self.act(self.conv(x))

class Join(nn.Module):
    def forward(self, x):
        return torch.cat([x[1], nn.functional.interpolate(x[0], x[1].shape[2:])], 1)

class Boxes(nn.Module):
    def __init__(self, widths, out):
        super().__init__()
        self.stride = torch.zeros(len(widths))
        self.heads = nn.ModuleList(nn.Conv2d(w, out, 1) for w in widths)

    def forward(self, x):
        if self.training:
            return [head(y) for head, y in zip(self.heads, x)]
        return torch.cat([head(y).flatten(2) * s for head, y, s in zip(self.heads, x, self.stride)], 2)

def parsed(rows, given):
    layers, widths = [], [given]
    for number, (source, kind, width) in enumerate(rows):
        if kind == "Conv":
            layer = Conv(widths[-1], width)
        elif kind == "Half":
            layer, width = nn.MaxPool2d(2), widths[-1]
        elif kind == "Join":
            layer, width = Join(), widths[-1] + widths[2]
        else:
            layer = Boxes([widths[n + 1] for n in source], width)
        layer.f, layer.i = source, number
        layers.append(layer)
        widths.append(width)
    return nn.Sequential(*layers)

class Detector(nn.Module):
    def __init__(self, rows=ROWS):
        super().__init__()
        self.model = parsed(rows, 3)
        boxes = self.model[-1]
        boxes.stride = torch.tensor([16 / y.shape[-2] for y in self(torch.zeros(1, 3, 16, 16))])

    def forward(self, x):
        kept = []
        for layer in self.model:
            if layer.f != -1:
                x = kept[layer.f] if isinstance(layer.f, int) else [x if n == -1 else kept[n] for n in layer.f]
            x = layer(x)
            kept.append(x)
        return x
"""
NET = """
from torch import nn
from {name} import Drop, Mlp, Norm, Swap, count

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.swap = Swap("1 2", size=3)
        self.norm = Norm(6)
        self.mlp = Mlp(6, 8, 0.5)
        self.drop = Drop(0.25)

    def number(self):
        return count(self)

    def forward(self, x):
        return self.drop(self.mlp(self.norm(self.swap(x)).transpose(1, 2)))
"""


@pytest.fixture
def name(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a library that counts as installed: a description lies beside it."""
    name = f"layers_{abs(hash(request.node.name))}"
    folder = tmp_path / "site" / name
    folder.mkdir(parents=True)
    (tmp_path / "site" / f"{name}-1.0.dist-info").mkdir()
    (folder / "__init__.py").write_text(LIBRARY)
    (folder / "tools.py").write_text(TOOLS)
    (folder / "parts.py").write_text(PARTS)
    sys.path.insert(0, str(folder.parent))
    yield name
    sys.path.remove(str(folder.parent))


def _made(tmp_path: Path, name: str, text: str = NET) -> tuple[nn.Module, Entry]:
    module = load(text.format(name=name), tmp_path, "author")
    return module.Net().eval(), Entry(module.Net, {}, "Net")


def _narrowed(net: nn.Module) -> nn.Module:
    mlp = net.mlp
    mlp.up.weight, mlp.up.bias = nn.Parameter(mlp.up.weight[:5]), nn.Parameter(mlp.up.bias[:5])
    mlp.down.weight = nn.Parameter(mlp.down.weight[:, :5])
    mlp.up.out_features = mlp.down.in_features = 5
    return net


def test_what_was_changed_after_it_was_made_is_taken_over(tmp_path: Path, name: str) -> None:
    net, entry = _made(tmp_path, name)
    net.drop.rate = 0.75
    text = write_source(net, entry)
    assert "class Drop(" in text
    assert load(text, tmp_path).Net().drop.rate == 0.75


def test_a_parent_of_a_class_that_is_taken_over_is_taken_over(tmp_path: Path, name: str) -> None:
    more = NET.replace("class Net", "class Own(Drop):\n    pass\n\n\nclass Net").replace("Drop(0.25)", "Own(0.25)")
    text = write_source(*_made(tmp_path, name, more))
    assert "class Drop(" in text
    assert "class Own(Drop)" in text


def test_what_looks_for_a_class_that_is_taken_over_is_taken_over_too(tmp_path: Path, name: str) -> None:
    net, entry = _made(tmp_path, name)
    text = write_source(_narrowed(net), entry)
    made = load(text, tmp_path).Net()
    assert "def count(" in text
    assert made.number() == 1


@pytest.mark.parametrize("handed", ["Scale", "partial(Scale, power=2)", "Scale, [Scale]"])
def test_what_is_handed_a_class_that_is_taken_over_is_taken_over(tmp_path: Path, name: str, handed: str) -> None:
    net, entry = _made(tmp_path, name, HANDED.replace("{handed}", handed))
    net.first.power = 3
    text = write_source(net, entry)
    assert "class Scale(" in text and "class Head(" in text
    assert_same_network(load(text, tmp_path).Net(), net, torch.randn(2, 6))


def test_what_only_a_method_of_the_constructor_reads_is_kept(tmp_path: Path, name: str) -> None:
    net, entry = _made(tmp_path, name, PLACED)
    text = write_source(_narrowed(net), entry)
    assert "self.size = size" in text and "self.fill()" in text
    assert_same_network(load(text, tmp_path).Net(), net, torch.randn(2, 6))


def test_what_a_parent_that_is_no_module_reads_is_kept(tmp_path: Path, name: str) -> None:
    net, entry = _made(tmp_path, name, ENCODER)
    text = write_source(_narrowed(net), entry)
    assert "class Encoder(nn.Module, Strided)" in text and f"from {name}.parts import Strided" in text
    assert_same_network(load(text, tmp_path).Net(), net, torch.randn(2, 6))


def test_what_a_librarys_parser_puts_on_layers_is_kept(tmp_path: Path, name: str) -> None:
    (tmp_path / "site" / name / "detector.py").write_text(DETECTOR)
    net, entry = _made(tmp_path, name, "from {name}.detector import Detector as Net")
    first, second, head = net.model[0].conv, net.model[1].conv, net.model[4].heads
    head[0].weight = nn.Parameter(head[0].weight[:, :4])
    first.weight, first.bias = nn.Parameter(first.weight[:4]), nn.Parameter(first.bias[:4])
    second.weight = nn.Parameter(second.weight[:, :4])
    first.out_channels = second.in_channels = head[0].in_channels = 4
    for _ in range(2):  # the layer that all instances of a class share is as it was
        text = write_source(net, entry)
    assert f"from {name}.detector import Join" in text
    assert_same_network(load(text, tmp_path).Net(), net, torch.randn(1, 3, 16, 16))


def test_a_parent_that_is_named_through_its_package_is_taken_over(tmp_path: Path, name: str) -> None:
    net, entry = _made(tmp_path, name, DOTTED)
    text = write_source(net, entry)
    assert "class Part(" in text and "class Own(Part)" in text
    assert_same_network(load(text, tmp_path).Net(), net, torch.randn(2, 6))


def test_an_unchanged_library_is_imported_and_called_as_the_author_does(tmp_path: Path, name: str) -> None:
    net, entry = _made(tmp_path, name)
    text = write_source(net, entry)
    written = load(text, tmp_path).Net()
    for line in (
        'self.swap = Swap("1 2", size=3)',
        "self.norm = Norm(6)",
        "self.mlp = Mlp(6, 8, 0.5)",
        f"from {name} import ",
    ):
        assert line in text
    assert text.count("class ") == 1
    assert_same_network(written, net, torch.randn(2, 4, 6))


def test_only_the_class_whose_widths_change_is_taken_over(tmp_path: Path, name: str) -> None:
    net, entry = _made(tmp_path, name)
    text = write_source(_narrowed(net), entry)
    assert "class Mlp(" in text
    assert text.count("class ") == 2
    assert f"from {name}.tools import half" in text
    assert "self.drop = Drop(0.25)" in text
    assert_same_network(load(text, tmp_path).Net(), net, torch.randn(2, 4, 6))


def test_a_class_keeps_the_name_that_the_author_gave_it(tmp_path: Path, name: str) -> None:
    more = NET.replace("Drop, Mlp", "Drop as Forget, Mlp").replace("Drop(0.25)", "Forget(0.25)")
    text = write_source(*_made(tmp_path, name, more))
    assert "self.drop = Forget(0.25)" in text
    assert "Drop as Forget" in text
    assert isinstance(load(text, tmp_path).Net().drop, sys.modules[name].Drop)


def test_a_class_stands_before_the_notes_that_name_it(tmp_path: Path) -> None:
    """Here the file of the outer class is the one that knows the inner class least."""
    base = load(
        """
from torch import nn

class Stack(nn.Module):
    def __init__(self, block, depth):
        super().__init__()
        self.blocks = nn.Sequential(*(block(4) for _ in range(depth)))

    def forward(self, x):
        return self.blocks(x)
""",
        tmp_path,
        "base",
    )
    text = f"""
from torch import nn
from {base.__name__} import Stack

class Block(nn.Linear):
    def __init__(self, dim):
        super().__init__(dim, dim)

def small(depth: int = 2) -> Stack:
    return Stack(Block, depth)
"""
    sys.modules[base.__name__] = base
    factory = load(text, tmp_path, "net").small
    net = factory().eval()
    written = load(write_source(net, Entry(factory, {}, "small")), tmp_path)
    assert_same_network(written.small(), net, torch.randn(2, 4))
