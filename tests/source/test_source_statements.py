"""What constructors compute on their way to the layers: other names, lists that grow, conditions inside conditions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from forms import pruned

TABLE = """
def pair(n):
    return n, n


def table(high, wide, dim):
    return torch.arange(high * wide * dim).view(high * wide, dim) / 100


class Net(nn.Module):
    def __init__(self, size=7, patch=1):
        super().__init__()
        high, _ = pair(size)
        self.patch = step, wide = pair(patch)
        self.embed, self.up, self.head = nn.Linear(5, 16), nn.Linear(16, 24), nn.Linear(24, 3)
        self.table = {table}

    def forward(self, x):
        return self.head(self.up(self.embed(x) + {read}).relu()).mean(1)
"""
DEFINED_LATER = """
class Net(nn.Module):
    def __init__(self, kernel=3):
        super().__init__()
        self.layers = nn.ModuleList([])
        k = kernel
        for first, width in ((7, 16), (16, 24)):
            self.layers.append(nn.Sequential(nn.Conv1d(first, width, k, padding=1), nn.ReLU()))
        self.pool = nn.AvgPool1d(k)
        self.head = nn.Linear(24, 3)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.head(self.pool(x).mean(2))
"""
GROWN = """
class Block(nn.Module):
    def __init__(self, inp, out, reps, active=True, first=True):
        super().__init__()
        self.relu = nn.ReLU()
        rep = []
        wide = inp
        if first:
            rep.append(self.relu)
            rep.append(nn.Conv1d(inp, out, 1))
            wide = out
        for _ in range(reps - 1):
            rep.append(self.relu)
            rep.append(nn.Conv1d(wide, wide, 1))
        if not first:
            rep.append(self.relu)
            rep.append(nn.Conv1d(inp, out, 1))
        if not active:
            rep = rep[1:]
        else:
            rep[0] = nn.ReLU(inplace=False)
        self.rep = nn.Sequential(*rep)

    def forward(self, x):
        return self.rep(x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = Block(7, 16, 2, active=False)
        self.two = Block(16, 24, 3, first=False)
        self.three = Block(24, 24, 2)
        self.head = nn.Linear(24, 3)

    def forward(self, x):
        return self.head(self.three(self.two(self.one(x))).mean(2))
"""
NESTED = """
class Block(nn.Module):
    def __init__(self, inp, out, kind="normal"):
        super().__init__()
        if kind == "start":
            self.stride, self.projects = 1, True
        elif kind == "down":
            self.stride = 2
            self.projects = True
        else:
            self.stride = 1
            self.projects = False
        if kind == "start":
            self.projects = True
        if self.projects:
            # other names, so that checkpoints tell them apart
            if self.stride == 2:
                self.down = nn.Conv1d(inp, out, 1, stride=2)
            else:
                self.same = nn.Conv1d(inp, out, 1)
        self.conv = nn.Conv1d(inp, out, 3, self.stride, 1)

    def forward(self, x):
        if self.projects:
            return self.conv(x) + (self.down(x) if self.stride == 2 else self.same(x))
        return self.conv(x) + x


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(Block(7, 16, "start"), Block(16, 24, "down"), Block(24, 24), Block(24, 32, "down"))
        self.head = nn.Linear(32, 3)

    def forward(self, x):
        return self.head(self.body(x).relu().mean(2))
"""
HEADS = """
class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(dim, 24 * heads), nn.Linear(8 * heads, dim)

    def forward(self, x):
        *_, heads, half = *x.shape, self.heads, 0.5
        split = lambda t: t.reshape(x.shape[0], -1, heads, t.shape[-1] // heads).transpose(1, 2)
        q, k, v = map(split, self.qkv(x).chunk(3, -1))
        y = ((q @ k.mT) * half).softmax(-1) @ v
        return x + self.out(y.transpose(1, 2).flatten(2))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(5, 16), nn.Linear(16, 3)
        self.blocks = nn.Sequential(Attention(16, 1), Attention(16, 3), Attention(16, 4))

    def forward(self, x):
        return self.head(self.blocks(self.embed(x)).mean(1))
"""


def test_a_tensor_is_made_by_the_authors_statement_after_those_that_it_needs(tmp_path: Path) -> None:
    _, _, text = pruned(tmp_path, TABLE.format(table="table(high // step, wide, 16)", read="self.table"))
    assert "self.patch = step, wide = pair(patch)" in text
    assert "self.table = table(high // step, wide, 16)" in text


def test_an_attribute_stays_that_is_set_together_with_other_names(tmp_path: Path) -> None:
    _, _, text = pruned(tmp_path, TABLE.format(table="(high, wide)", read="self.table[1]"))
    assert "self.patch = step, wide = pair(patch)" in text


NAMED_LIST = """
class Cell(nn.Module):
    def __init__(self, inner, outer):
        super().__init__()
        self.path = nn.ModuleList()
        self.path.add_module("drop", nn.Dropout(0.1))
        self.path.add_module("up", nn.Linear(inner, outer))  # twice as wide
        for i in range(2):
            self.path.add_module(f"step_{i}", nn.Linear(outer, outer))

    def forward(self, x):
        x = self.path.up(self.path.drop(x)).relu()
        return self.path.step_1(self.path.step_0(x).relu()).relu()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.cells = nn.Sequential(Cell(5, 8), Cell(8, 12))
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        return self.head(self.cells(x))
"""

AROUND_LAYERS = """
class Block(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.mlp = nn.ModuleDict(dict(up=nn.Linear(dim, 4 * dim), down=nn.Linear(4 * dim, dim), act=nn.GELU()))
        self.stack = nn.Sequential(nn.Linear(dim, dim), nn.Tanh())
        m, first = self.mlp, self.stack[0]
        self.forth = lambda x: m.down(m.act(m.up(first(x))))

        def back(x):
            return self.forth(x) * 0.5

        self.back = back

    def forward(self, x):
        return x + self.back(self.stack(x))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.head = nn.Linear(5, 8), nn.Linear(8, 3)
        self.blocks = nn.ModuleList([Block(8) for _ in range(2)])

    def forward(self, x):
        x = self.up(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)
"""
GRID = """
class Detect(nn.Module):
    stride = None

    def __init__(self, dim, kinds):
        super().__init__()
        self.kinds, self.grid_size = kinds, 0
        self.grids = [torch.empty(0) for _ in range(2)]
        self.last = nn.Linear(dim, kinds)
        self.mse_loss, self.bce_loss = nn.MSELoss(), nn.BCELoss(reduction="sum")
        self.other_loss = nn.CrossEntropyLoss(ignore_index=-1)

    def forward(self, x, targets=None):
        x = self.last(x)
        if x.shape[1] != self.grid_size:
            self.grid_size = x.shape[1]
            self.grid = torch.arange(x.shape[1]).view(1, -1, 1).to(x) / 9
        if self.grids[1].shape[:1] != x.shape[1:2]:
            self.grids[1] = torch.ones(x.shape[1], self.kinds).to(x) * self.stride[1]
        if targets is not None:
            return self.mse_loss(x, targets)
        return x.sigmoid() + self.grid + self.grids[1]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.detect = nn.Linear(5, 8), Detect(8, 3)
        self.detect.stride = torch.tensor([8.0, 16.0])
        self.stride = self.detect.stride

    def forward(self, x):
        return self.detect(self.up(x).relu())
"""

LEAVES_EARLY = """
class Convolution(nn.Sequential):
    def __init__(self, inner, outer, conv_only=False, drop=None):
        super().__init__()
        self.add_module("conv", nn.Linear(inner, outer))
        if conv_only:
            return
        if drop is None:
            self.add_module("act", nn.ReLU())
            return
        self.add_module("drop", nn.Dropout(drop))
        self.add_module("act", nn.Tanh())


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = Convolution(5, 8, True), Convolution(8, 12)
        self.third, self.head = Convolution(12, 8, drop=0.1), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.third(self.second(self.first(x))))
"""
FILLED_BY_A_HELPER = """
class Block(nn.Module):
    def __init__(self, inner, outer, norm=True, before=False):
        super().__init__()
        block = nn.ModuleList()
        act = nn.ReLU()
        normed = nn.LayerNorm(inner if before else outer) if norm else None
        layer = nn.Linear(inner, outer)
        if before:
            self.add_if_there(block, normed)
            self.add_if_there(block, act)
            self.add_if_there(block, layer)
        else:
            self.add_if_there(block, layer)
            self.add_if_there(block, normed)
            self.add_if_there(block, act)
        self.block = nn.Sequential(*block)

    def forward(self, x):
        return self.block(x)

    @staticmethod
    def add_if_there(modules, module):
        if module is not None:
            modules.append(module)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = Block(5, 8, norm=False), Block(8, 12, before=True)
        self.head = Block(12, 3, norm=False)

    def forward(self, x):
        return self.head(self.second(self.first(x)))
"""

FORMS = {
    "a constructor that some instances leave early": LEAVES_EARLY,
    "a list of layers that a helper fills": FILLED_BY_A_HELPER,
    "functions around the block's own layers": AROUND_LAYERS,
    "losses, grids that running makes and strides set from outside": GRID,
    "a list of layers that have names": NAMED_LIST,
    "a name that is assigned behind the list of layers": DEFINED_LATER,
    "a list of layers that grows and loses its first": GROWN,
}


@pytest.mark.parametrize("form", FORMS)
def test_the_written_file_gives_the_same_layers(tmp_path: Path, form: str) -> None:
    pruned(tmp_path, FORMS[form])


def test_conditions_inside_conditions_stay_the_authors(tmp_path: Path) -> None:
    _, _, text = pruned(tmp_path, NESTED)
    assert "if self.projects:" in text
    assert "if self.stride == 2:" in text


def test_each_block_keeps_its_own_number_of_heads(tmp_path: Path) -> None:
    _, _, text = pruned(tmp_path, HEADS, example=torch.randn(2, 7, 5))
    assert "-1, heads, t.shape[-1] // heads" in text


EYE = """
class Shift(nn.Module):
    def __init__(self, sign):
        super().__init__()
        self.mix = nn.Conv1d(7, 7, 1)
        self.mix.weight.data = torch.eye(7).view(7, 7, 1) * sign
        self.mix.bias.data = torch.zeros(7)
        for parameter in self.parameters():
            parameter.requires_grad = False

    def forward(self, x):
        return self.mix(x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.body = Shift(-1), nn.Conv1d(7, 7, 3, padding=1)
        self.last = Shift(1)

    def forward(self, x):
        return self.last(self.body(self.first(x)))
"""


def test_a_weight_that_is_set_to_another_size_is_not_set(tmp_path: Path) -> None:
    _, _, text = pruned(tmp_path, EYE)
    assert "torch.eye" not in text
    assert "parameter.requires_grad = False" in text
    assert "def __init__(self, mix_channels, mix_out_channels):" in text


SHAPED = """
class Binary(nn.Module):
    def __init__(self, inp, out):
        super().__init__()
        self.shape = (out, inp, 1)
        self.count = inp * out
        self.weight = nn.Parameter(torch.rand(self.shape) * 0.1)

    def forward(self, x):
        return F.conv1d(x, torch.sign(self.weight))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(Binary(7, 16), nn.BatchNorm1d(16), Binary(16, 24), nn.BatchNorm1d(24))
        self.head = nn.Linear(24, 3)

    def forward(self, x):
        return self.head(self.body(x).mean(2))
"""


def test_a_shape_kept_as_an_attribute_follows_and_makes_the_weight(tmp_path: Path) -> None:
    _, _, text = pruned(tmp_path, SHAPED)
    assert "self.shape = (out, inp, 1)" in text
    assert "self.count = inp * out" in text
    assert "self.weight = nn.Parameter(torch.rand(self.shape) * 0.1)" in text
    assert "Binary(8, 12)" in text


COMPARED = """
class Binary(nn.Module):
    def __init__(self, inp, out):
        super().__init__()
        self.shape = (out, inp, 1)
        self.count = inp * out
        self.weights = nn.Parameter(torch.rand(self.count, 1) * 0.1)

    def forward(self, x):
        return F.conv1d(x, torch.sign(self.weights.view(self.shape)))


class Block(nn.Module):
    def __init__(self, inp, out):
        super().__init__()
        self.conv = Binary(inp, out)
        self.norm = nn.BatchNorm1d(out)
        self.inp, self.out = inp, out
        self.width = out

    def forward(self, x):
        y = self.norm(self.conv(x))
        if self.inp == self.out:
            y = y + x
        return y.relu() if self.width > 20 else y.tanh()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv1d(7, 16, 1)
        self.body = nn.Sequential(Block(16, 16), Block(16, 24), Block(24, 24))
        self.head = nn.Linear(24, 3)

    def forward(self, x):
        return self.head(self.body(self.first(x)).mean(2))
"""


def test_widths_that_forward_only_compares_follow_where_the_comparison_stays(tmp_path: Path) -> None:
    _, _, text = pruned(tmp_path, COMPARED)
    assert "self.conv = Binary(inp, out)" in text
    assert "self.weights = nn.Parameter(torch.rand(self.count, 1) * 0.1)" in text
    assert "self.inp, self.out = inp, out" in text
    assert "self.width = width" in text
    assert "Block(8, 24, 12)" in text


PARTS = """
class Block(nn.Module):
    def __init__(self, c, planes, base=26, scale=4):
        super().__init__()
        self.scale = scale
        self.width = int(planes * (base / 64.0))
        self.first = nn.Linear(c, self.width * scale)
        self.convs = nn.ModuleList([nn.Linear(self.width, self.width) for _ in range(max(1, scale - 1))])
        self.last = nn.Linear(self.width * scale, planes * 4)

    def forward(self, x):
        parts = self.first(x).relu().split(self.width, -1)
        found = [conv(part) for conv, part in zip(self.convs, parts)]
        if self.scale > 1:
            found.append(parts[-1])
        return self.last(torch.cat(found, -1))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Linear(5, 16), nn.Linear(128, 3)
        self.blocks = nn.Sequential(Block(16, 16), Block(64, 32))

    def forward(self, x):
        return self.head(self.blocks(self.stem(x))).mean(1)
"""


def test_a_number_of_parts_that_only_a_condition_reads_stays(tmp_path: Path) -> None:
    assert "        self.scale = scale\n" in pruned(tmp_path, PARTS)[2]


RENAMED = """
from collections import namedtuple

Config = namedtuple("AttentionConfig", ["scale", "steps"])


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.config = Config(0.5, (1, 2))
        self.up, self.head = nn.Linear(5, 16), nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.up(x).relu() * self.config.scale).mean(self.config.steps[0])
"""


def test_a_named_tuple_has_the_name_that_the_file_gives_it(tmp_path: Path) -> None:
    _, _, text = pruned(tmp_path, RENAMED)
    assert 'Config = namedtuple("AttentionConfig", ["scale", "steps"])' in text


PLACES = """
class Block(nn.Module):
    def __init__(self, width, size):
        super().__init__()
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        here = torch.arange(size)
        away = (here[:, None] - here[None, :]).abs()
        self.register_buffer("away", away)

    def forward(self, x):
        return x + torch.softmax(-self.away.to(x.dtype), -1) @ self.down(self.up(x).relu())


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(5, 16), nn.Linear(16, 3)
        self.one, self.two = Block(16, 7), Block(16, 7)

    def forward(self, x):
        return self.head(self.two(self.one(self.embed(x)))).mean(1)
"""


def test_a_saved_buffer_is_computed_as_the_author_does(tmp_path: Path) -> None:
    _, _, text = pruned(tmp_path, PLACES)
    assert "away = (here[:, None] - here[None, :]).abs()" in text
    assert 'self.register_buffer("away", away)' in text


DEFAULTED = """
class Net(nn.Module):
    def __init__(self, scale=2.0):
        super().__init__()
        self.scale = lambda x, by=scale: x * by
        self.up, self.head = nn.Linear(5, 16), nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.scale(self.up(x).relu())).mean(1)
"""


def test_a_lambda_with_a_default_is_made_again(tmp_path: Path) -> None:
    _, _, text = pruned(tmp_path, DEFAULTED)
    assert "self.scale = lambda x, by=scale: x * by" in text
