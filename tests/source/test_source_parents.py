"""Constructors that take away or set again what was made before them, by a parent or by themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from forms import pruned, written
from source_helpers import assert_writes, load

from secateur.pruners.source import Entry

BASE = """
class Base(nn.Module):
    def __init__(self, width=8, classes=10):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)
        self.token = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.scale = nn.Parameter(torch.ones(1, 3, 1, 1))
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self.fc = nn.Conv2d(width, classes, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.features = nn.Sequential(nn.Conv2d(width, 6, 1), nn.ReLU(), nn.Conv2d(6, 5, 1))

    def cut(self):
        del self.fc

    def forward(self, x):
        return self.features((self.conv((x - self.mean) * self.scale) + self.token).relu())


class Net(Base):
    def __init__(self, depth=3):
        super().__init__()
        STATEMENT
        self.last = nn.Conv2d(LAST, 4, 1)

    def forward(self, x):
        return self.last(super().forward(x))
"""
IMAGE = torch.randn(2, 3, 8, 8)
GONE = {
    "one child": ("del self.fc", 5),
    "two at once": ("del self.fc, self.pool", 5),
    "some by their names": ('for name in ("fc", "pool"):\n            delattr(self, name)', 5),
    "where it is there": ('if hasattr(self, "fc"):\n            del self.fc', 5),
    "or passed over": ("try:\n            del self.fc\n        except AttributeError:\n            pass", 5),
    "out of torch's dict": ('self._modules.pop("fc")', 5),
    "by a method of the parent": ("self.cut()", 5),
    "the last layer": ("del self.features[-1]", 6),
    "the last layer, popped": ("self.features.pop(-1)", 6),
    "layers from a depth on": ("del self.features[depth - 1 :]", 6),
    "and set again": ("del self.fc\n        self.fc = nn.Conv2d(8, 3, 1)", 5),
}
AGAIN = {
    "a child": ("self.more = nn.Conv2d(4, 4, 1)\n        self.fc = nn.Conv2d(8, 3, 1)", "fc", "more"),
    "a child, with a local size": (
        "self.more = nn.Conv2d(4, 4, 1)\n        self.third = nn.Conv2d(4, 4, 1)\n"
        "        size = 3\n        self.fc = nn.Conv2d(8, size, 1)",
        "fc", "more",
    ),
    "children that a loop sets": (
        "self.more = nn.Conv2d(4, 4, 1)\n"
        '        for name, width in (("conv", 3), ("fc", 8)):\n            setattr(self, name, nn.Conv2d(width, 8, 1))',
        "fc", "more",
    ),
    "a parameter": (
        "self.shift = nn.Parameter(torch.zeros(1))\n        self.scale = nn.Parameter(torch.zeros(3, 1, 1))",
        "scale", "shift",
    ),
    "a buffer": (
        'self.register_buffer("std", torch.ones(3, 1, 1))\n        self.register_buffer("mean", torch.ones(3, 1, 1))',
        "mean", "std",
    ),
}  # fmt: skip


def _source(statement: str, last: int = 5) -> str:
    return BASE.replace("STATEMENT", statement).replace("LAST", str(last))


@pytest.mark.parametrize("statement, last", GONE.values(), ids=GONE.keys())
def test_what_is_taken_away_stays_away(tmp_path: Path, statement: str, last: int) -> None:
    module = written(tmp_path, _source(statement, last))
    text = assert_writes(module.Net(), Entry(module.Net, {}, "Net"), tmp_path, IMAGE)
    made = module.Net()
    assert list(made.state_dict()) == list(load(text, tmp_path).Net().state_dict())
    assert statement.strip().splitlines()[-1] in text  # as the author wrote it


@pytest.mark.parametrize("statement, first, second", AGAIN.values(), ids=AGAIN.keys())
def test_what_is_set_again_keeps_its_place(tmp_path: Path, statement: str, first: str, second: str) -> None:
    module = written(tmp_path, _source(statement))
    text = assert_writes(module.Net(), Entry(module.Net, {}, "Net"), tmp_path, IMAGE)
    names = [n.partition(".")[0] for n in load(text, tmp_path).Net().state_dict()]
    assert names.index(first) < names.index(second)


def test_what_is_set_again_in_one_of_two_branches_keeps_its_place(tmp_path: Path) -> None:
    source = (
        _source("self.more = nn.Conv2d(4, 4, 1)").replace("class Net", "class Part").replace("depth=3", "wide, depth=3")
    )
    source = source.replace(
        "        self.last", "        self.fc = nn.Conv2d(8, 3 if wide else 2, 1)\n        self.last"
    )
    source += """

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = Part(True)
        self.up = nn.Conv2d(4, 3, 1)
        self.b = Part(False)

    def forward(self, x):
        return self.b(self.up(self.a(x)))
"""
    module = written(tmp_path, source)
    text = assert_writes(module.Net(), Entry(module.Net, {}, "Net"), tmp_path, torch.randn(2, 3, 12, 12))
    assert text.index("self.fc =") < text.index("self.more =")


def test_it_is_pruned(tmp_path: Path) -> None:
    statement = "del self.fc\n        " + AGAIN["a parameter"][0]
    _, widths, text = pruned(tmp_path, _source(statement), example=IMAGE)
    assert widths["conv"] == 8
    assert "nn.Conv2d(3, 4, " in text


def test_values_that_a_statement_makes_again_are_cut_again(tmp_path: Path) -> None:
    source = """
class Sizes:
    def __init__(self):
        self.names = ["a", "b"]

    def pop(self):
        return self.names.pop()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.sizes = Sizes()
        self.sizes.pop()
        self.up = nn.Linear(5, 8)
        self.down = nn.Linear(8, 3)

    def forward(self, x):
        return self.down(self.up(x)) * len(self.sizes.names)
"""
    module = written(tmp_path, source)
    text = assert_writes(module.Net(), Entry(module.Net, {}, "Net"), tmp_path, torch.randn(2, 5))
    assert "self.sizes.pop()" in text
