"""Options that hold widths, of all kinds: the number changes where the author wrote it, the rest stays."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from source_helpers import load
from torch import nn

from secateur.pruners.entry import Entry
from secateur.pruners.source.writer import Written, write

_NUMBER = count(1)
NET = '''from argparse import Namespace
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import List, NamedTuple

import torch
from torch import nn


{options}


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.scale = nn.Parameter(torch.ones({width}))
        self.layer = nn.Linear({width}, {width})

    def forward(self, x):
        return self.layer(x * self.scale)


class Net(nn.Module):
    """Reads its options."""

    def __init__(self, config{default}):
        super().__init__()
        self.first = nn.Linear(3, {width})  # wide
        self.block = Block(config)
        self.last = nn.Linear({width}, 5)

    def forward(self, x):
        return self.last(self.block(self.first(x)))


{factory}
'''
CLASS = '''@dataclass
class Config:
    """Options.

    width: of all layers.
    """

    width: int = 8  # channels
    rate: float = 0.5'''
MAKE = "def make():\n    return Net({})"
FORMS: dict[str, tuple[str, str, str, str, tuple[str, str]]] = {
    "a dataclass": (CLASS, "config.width", "", MAKE.format("Config()"), ("width: int = 8", "width: int = 4")),
    "a default": (CLASS, "config.width", ": Config = Config()", MAKE.format(""), ("width: int = 8", "width: int = 4")),
    "an object at the top": (f"{CLASS}\n\n\ncfg = Config(width=8)", "config.width", "", MAKE.format("cfg"),
                             ("cfg = Config(width=8)", "cfg = Config(width=4)")),
    "what the factory gives": (CLASS.replace("= 8", "= 9"), "config.width", "", MAKE.format("Config(width=8)"),
                               ("Net(Config(width=8))", "Net(Config(width=4))")),
    "what is replaced": (f"{CLASS.replace('= 8', '= 9')}\n\n\ncfg = replace(Config(), width=8)", "config.width", "",
                         MAKE.format("cfg"), ("Config(), width=8)", "Config(), width=4)")),
    "a list that a function makes": (
        "@dataclass\nclass Config:\n    widths: List[int] = field(default_factory=lambda: [8, 3])", "config.widths[0]",
        "", MAKE.format("Config()"), ("lambda: [8, 3]", "lambda: [4, 3]")),
    "a tuple with names": ("class Config(NamedTuple):\n    width: int = 8\n    rate: float = 0.5", "config.width", "",
                           MAKE.format("Config()"), ("width: int = 8", "width: int = 4")),
    "a namespace": ("cfg = SimpleNamespace(width=8, act='relu')", "config.width", "", MAKE.format("cfg"),
                    ("width=8", "width=4")),
    "arguments of a program": ("cfg = Namespace(width=8)\ncfg.rate = 0.5", "config.width", "", MAKE.format("cfg"),
                               ("width=8", "width=4")),
    "what is set later": ("cfg = Namespace()\ncfg.width = 8", "config.width", "", MAKE.format("cfg"),
                          ("cfg.width = 8", "cfg.width = 4")),
    "a dict": ("cfg = {'width': 8, 'rate': 0.5}", "config['width']", "", MAKE.format("cfg"),
               ("'width': 8", "'width': 4")),
    "a dict by its name": ("cfg = dict(width=8, rate=0.5)", "config['width']", "", MAKE.format("cfg"),
                           ("width=8", "width=4")),
    "a class of its own": ("class Config:\n    def __init__(self, width=8):\n        self.width = width",
                           "config.width", "", MAKE.format("Config()"), ("width=8", "width=4")),
    "attributes of a class": ("class Config:\n    width = 8", "config.width", "", MAKE.format("Config"),
                              ("    width = 8", "    width = 4")),
}  # fmt: skip


def written(folder: Path, form: str, uneven: bool, name: str = "make") -> tuple[Written, Callable[..., nn.Module], str]:
    """What is written where half of the width is left, the function that makes it, and the author's text."""
    module = f"config{next(_NUMBER)}"
    options, width, default, factory, _ = FORMS[form]
    text = NET.format(options=options, width=width, default=default, factory=factory)
    (folder / f"{module}.py").write_text(text)
    importlib.invalidate_caches()
    author = getattr(importlib.import_module(module), name)
    net = author()
    inner = 7 if uneven else 4
    net.first, net.last = nn.Linear(3, inner), nn.Linear(4, 5)
    net.block.layer, net.block.scale = nn.Linear(inner, 4), nn.Parameter(net.block.scale.detach()[:inner].clone())
    found = write(net, Entry(author, name=name))
    return found, getattr(load(found.text, folder), name), text


def code(text: str) -> str:
    """Classes and functions."""
    return text[min(text.index(w) for w in ("class ", "cfg = ", "@dataclass") if w in text) :]


@pytest.mark.parametrize("form", ["a dataclass", "a namespace"])
def test_options_that_would_be_several_widths_are_told(folder: Path, form: str) -> None:
    found, make, text = written(folder, form, uneven=True)
    lost = "Config" if "class Config" in text else "cfg"
    line = next(n for n, s in enumerate(text.splitlines(), 1) if s.startswith((f"class {lost}", f"{lost} =")))
    assert f"{lost} (line {line})" in found.lost and lost not in found.text
    assert make().get_submodule("block.layer").in_features == 7


@pytest.mark.parametrize("form", FORMS)
def test_only_the_number_changes(folder: Path, form: str) -> None:
    found, make, text = written(folder, form, uneven=False)
    old, new = FORMS[form][4]
    assert text.count(old) == 1
    assert code(found.text) == code(text.replace(old, new))
    assert found.lost == () and make().get_submodule("first").out_features == 4


def test_the_class_itself_may_be_what_makes_it(folder: Path) -> None:
    found, make, text = written(folder, "a default", uneven=False, name="Net")
    end = text.index("\n\n\ndef make")
    assert code(found.text).startswith(code(text[:end].replace("width: int = 8", "width: int = 4")))
    assert make().get_submodule("first").out_features == 4
