"""What ``prune`` shows of the change before its table."""

from __future__ import annotations

import inspect

import pytest
from app_helpers import app
from torch import nn

from secateur.commands.pruning.preview import block_diff

TWICE = """
from torch import nn


class Block(nn.Module):
    '''Two layers around which the input goes.'''

    def __init__(self, width):
        super().__init__()
        self.a = nn.Conv2d(width, 24, 1)
        self.b = nn.Conv2d(24, width, 1)

    def forward(self, x):
        return x + self.b(self.a(x).relu())


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3)
        self.blocks = nn.Sequential(Block(16), Block(16))
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def make():
    return Net()
"""


class ExampleBlock(nn.Sequential):
    """A block without changes."""


WORDS = ("--model", "net.py:make", "--input-shape", "3,8,8", "--search", "uniform", "--ratio", "0.5")


@pytest.fixture
def printed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def prune(source: str, *more: str) -> list[str]:
        (tmp_path / "net.py").write_text(source)
        done = app("prune", "-q", *WORDS, "-o", "out", *more)
        assert done.exit_code == 0, done.output
        return done.stdout.splitlines()

    return prune


def test_classes_in_which_nothing_changed_are_not_shown():
    assert block_diff(ExampleBlock(), inspect.getsource(ExampleBlock)) == []


def test_the_block_that_is_used_most_shows_its_changed_lines_first(printed):
    assert printed(TWICE)[:6] == [
        " class Block:",
        "-        self.a = nn.Conv2d(width, 24, 1)",
        "-        self.b = nn.Conv2d(24, width, 1)",
        "+        self.a = nn.Conv2d(width, 12, 1)",
        "+        self.b = nn.Conv2d(12, width, 1)",
        "",
    ]


def test_values_alone_are_printed_with_json(printed):
    assert printed(TWICE, "--json")[0] == "{"


def test_long_blocks_are_cut_off(printed):
    layers = "\n".join(f"        self.l{i} = nn.Conv2d(16, 16, 1)" for i in range(20))
    calls = "\n".join(f"        x = self.l{i}(x)" for i in range(20))
    source = TWICE.replace("        self.head =", f"{layers}\n        self.head =")
    before, after = "return self.head(self.blocks(self.stem(x))", "return self.head(x"
    source = source.replace(before, f"x = self.stem(x)\n{calls}\n        {after}")
    shown = printed(source)
    assert shown[0] == " class Net:"
    assert shown[24] == "  ... and 21 lines more"
