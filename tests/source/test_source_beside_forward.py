"""Numbers beside ``forward`` follow where a run of that code proves them, or are told; so are arguments, checks and
choices that the written file doesn't have."""

from __future__ import annotations

import ast
import cProfile
import importlib
import runpy
import sys
from itertools import count
from pathlib import Path

import pytest
import torch
from torch import nn

from secateur.pruners.entry import Entry
from secateur.pruners.source.writer import Written, write

_NUMBER = count(1)
NET = '''import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, bias=False, twice=False, scale="one"):
        super().__init__()
        self.first = nn.Linear(3, 64)
        self.second = nn.Linear(64, 48)
        self.last = nn.Linear(48, 5)
        self.twice = twice
        if twice:
            self.more = nn.Linear(64, 64)
        if scale == "two":
            self.two = nn.Linear(5, 5)
        elif scale != "one":
            raise ValueError(scale)

    def forward(self, x):
        x = self.first(x)
        if self.twice:
            x = self.more(x)
        return self.last(self.second(x))
{methods}

def make():
    return Net()


{after}
'''


def pruned(folder: Path, methods: str = "", after: str = "") -> Written:
    """The network with 20 of 64 and 30 of 48 channels left."""
    name = f"beside_forward{next(_NUMBER)}"
    (folder / f"{name}.py").write_text(NET.format(methods=f"\n{methods}\n" if methods else "", after=after))
    importlib.invalidate_caches()
    make = importlib.import_module(name).make
    net = make()
    net.first, net.second, net.last = nn.Linear(3, 20), nn.Linear(20, 30), nn.Linear(30, 5)
    return write(net, Entry(make, name="make"), example=torch.zeros(2, 3))


def stale(written: Written) -> set[str]:
    """What is told, with the line's text in place of its number."""
    rows = written.text.split("\n")
    told = [name.rpartition(" (written line ")[::2] for name in written.stale]
    return {f"{where}: {rows[int(line.rstrip(')')) - 1].strip()}" for where, line in told}


def script(lines: str) -> str:
    return "if __name__ == '__main__':\n" + "\n".join(f"    {line}" for line in lines.split("\n"))


UNPROVED = {
    "a check of what nobody knows": (
        "", "def check(rows):\n    assert rows.shape[1] == 64", "check: assert rows.shape[1] == 64"),
    "a size that goes by a name": (
        "", script("width = 64\nassert make().first(torch.zeros(1, 3)).shape[1] == width"),
        "if __name__: assert make().first(torch.zeros(1, 3)).shape[1] == width"),
    "a tensor of the old width": (
        "", script("y = make().second(torch.zeros(2, 64))"), "if __name__: y = make().second(torch.zeros(2, 64))"),
    "a shape that a method gives": (
        "    def shape(self, n):\n        return (n, 64)", "", "Net.shape: return (n, 64)"),
}  # fmt: skip


@pytest.mark.parametrize("form", UNPROVED)
def test_a_number_that_nobody_can_prove_is_told(folder: Path, form: str) -> None:
    methods, after, told = UNPROVED[form]
    written = pruned(folder, methods, after)
    assert stale(written) == {told}
    assert "64" in told or "width" in told


OTHERS = {
    "a batch": ("", script("y = make()(torch.zeros(64, 3))\nassert y.shape == (64, 5)")),
    "what isn't a size": ("    def image_size(self):\n        return 64", ""),
    "a check of a batch": ("    def check(self, x):\n        assert x.shape[0] == 64\n        return x", ""),
    "a number in words": ('    def bits(self):\n        """Of 64 bits."""\n        return 64', ""),
    "what reads a file": ("", script("with open('no file') as f:\n    assert len(f.read()) == 64")),
}  # fmt: skip


@pytest.mark.parametrize("form", OTHERS)
def test_a_number_that_is_no_width_stays_and_is_not_told(folder: Path, form: str) -> None:
    methods, after = OTHERS[form]
    written = pruned(folder, methods, after)
    assert written.stale == ()
    for text in (methods, after):
        assert text in written.text


FOLLOWS = {
    "a check in a method": (
        "    def check(self, x):\n        assert self.first(x).shape[1] == 64, '64 channels'", "",
        "assert self.first(x).shape[1] == 20, '20 channels'"),
    "a check of a shape in a script": (
        "", script("y = make().first(torch.zeros(64, 3))\nassert y.shape == (64, 64), y.shape"),
        "assert y.shape == (64, 20), y.shape"),
    "a check in a function of a network": (
        "", "def check(model):\n    with torch.no_grad():\n        y = model.second(model.first(torch.zeros(1, 3)))\n"
            "    if tuple(y.shape) != (1, 48):\n        raise ValueError", "if tuple(y.shape) != (1, 30):"),
    "a check in a function that a script calls": (
        "", "def check(y, n):\n    assert y.size(-1) == 48 and n == 2\n\n\n"
            + script("net = make()\nfor n in (2, 2):\n    check(net.second(net.first(torch.zeros(n, 3))), n)"),
        "assert y.size(-1) == 30 and n == 2"),
    "a width that a method says": ("    def out_channels(self):\n        return [64, 48]", "", "return [20, 30]"),
    "a shape in a docstring": (
        '    def embed(self, x):\n        """Rows of shape (N, 48)."""\n        return self.second(self.first(x))', "",
        "(N, 30)"),
}  # fmt: skip


@pytest.mark.parametrize("form", FOLLOWS)
def test_a_number_that_a_run_proves_follows(folder: Path, form: str) -> None:
    methods, after, now = FOLLOWS[form]
    written = pruned(folder, methods, after)
    assert now in written.text
    assert written.stale == ()
    (path := folder / "written.py").write_text(written.text)
    names = runpy.run_path(str(path), run_name="__main__")
    if "check(self" in methods:
        names["make"]().check(torch.zeros(2, 3))


def test_nothing_of_a_script_is_done(folder: Path) -> None:
    file = folder / "touched"
    lines = "import pathlib\npathlib.Path(FILE).write_text('64')\nprint(64)\ntorch.save(64, FILE)"
    after = script(lines.replace("FILE", repr(str(file))))
    assert "print(64)" in pruned(folder, after=after).text
    assert not file.exists()


def test_lists_of_the_file_are_not_changed(folder: Path) -> None:
    after = "KNOWN = [1]\n\n\ndef note():\n    KNOWN.append(64)\n    assert make().first.out_features == 64"
    assert "KNOWN = [1]" in pruned(folder, after=after).text
    module = sys.modules[f"beside_forward{next(_NUMBER) - 1}"]
    assert module.KNOWN == [1]


def test_values_of_arguments_that_work_no_more_are_told(folder: Path) -> None:
    assert "Net(twice=True)" in pruned(folder).lost


BLOCKS = '''import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, width, hidden=16, up=True, mode="a"):
        super().__init__()
        if hidden <= 0 or mode not in ("a", "b"):
            raise ValueError("hidden must be positive")
        assert hidden % 2 == 0, "even"
        if up:
            self.one = nn.Linear(width, hidden)
        else:
            self.one = nn.Linear(width, hidden // 2)
        self.two = nn.Linear(hidden, hidden)
        self.three = nn.Linear(hidden, width)
        if mode == "a":
            self.act = nn.ReLU()
        nn.init.zeros_(self.three.weight)
        nn.init.zeros_(self.three.bias)

    def forward(self, x):
        return self.three(self.two(self.act(self.one(x))))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = Block(4), Block(4)

    def forward(self, x):
        return self.b(self.a(x))
'''


def test_what_a_constructor_that_is_written_out_lacks_is_told_by_line(folder: Path) -> None:
    (folder / "blocks.py").write_text(BLOCKS)
    importlib.invalidate_caches()
    net = importlib.import_module("blocks").Net()
    for block, (one, two) in ((net.a, (3, 5)), (net.b, (7, 9))):
        block.one, block.two, block.three = nn.Linear(4, one), nn.Linear(one, two), nn.Linear(two, 4)
    written = write(net, Entry(type(net), name="Net"), example=torch.zeros(2, 4))
    assert "zeros_(self.three.weight)" in written.text
    line = next(n for n, row in enumerate(BLOCKS.split("\n"), 1) if "assert hidden" in row)
    init = next(n for n in ast.walk(ast.parse(written.text)) if isinstance(n, ast.FunctionDef) and n.name == "__init__")
    stay = {a.arg for a in init.args.args}
    assert f"Block.__init__ (line {line - 2})" in written.lost
    assert 'Block.__init__ (assert hidden % 2 == 0, "even")' in written.lost  # it fails with the new widths
    for flag in ("up", "mode"):
        branch = any(f"other branch of 'if {flag}" in name for name in written.lost)
        assert branch if flag in stay else f"Block({flag})" in written.lost


CHOICES = '''
from torch import nn


class Block(nn.Module):
    def __init__(self, n, hidden, smooth):
        super().__init__()
        if n == hidden:
            self.one, self.two = nn.Linear(n, hidden), nn.Linear(hidden, n)
            self.act = nn.Tanh() if smooth else nn.ReLU()
        else:
            self.one, self.two = nn.Linear(n, hidden, bias=False), nn.Linear(hidden, n)
            self.act = nn.Tanh() if smooth else nn.ReLU()

    def forward(self, x):
        return self.two(self.act(self.one(x)))


class Flags(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = Block(4, 4, 0), Block(4, 6, 1), Block(4, 6, 0)

    def forward(self, x):
        return self.c(self.b(self.a(x)))
'''


def test_a_choice_that_one_place_lacks_is_told_where_its_flag_stays(folder: Path) -> None:
    (folder / "choices.py").write_text(CHOICES)
    importlib.invalidate_caches()
    net = importlib.import_module("choices").Flags()
    for block, inner in ((net.a, 3), (net.b, 5), (net.c, 2)):
        block.one, block.two = nn.Linear(4, inner, bias=block is net.a), nn.Linear(inner, 4)
    written = write(net, Entry(type(net), name="Flags"), example=torch.zeros(2, 4))
    assert [ast.unparse(n) for n in ast.walk(ast.parse(written.text)) if isinstance(n, ast.IfExp)] == [
        "nn.Tanh() if smooth else nn.ReLU()"
    ]
    assert written.lost == ("Block.__init__'s other side of '... if smooth else ...'",)


def test_names_stay_under_python_s_profiler(folder: Path) -> None:
    alone = pruned(folder).text
    profile = cProfile.Profile()
    profile.enable()
    under = pruned(folder).text
    profile.disable()
    assert under.split("class Net")[1] == alone.split("class Net")[1]
    assert any("follow_beside" in str(entry.code) for entry in profile.getstats())
