"""What parameters and buffers start with, where the constructor is written out: the author's expression stays with the
new sizes, or is told as lost."""

from __future__ import annotations

import importlib
from itertools import count
from pathlib import Path

import pytest
import torch
from source_helpers import beside_arguments, load
from torch import nn

from secateur.pruners.entry import Entry
from secateur.pruners.source.writer import Written, write

_NUMBER = count(1)
NET = """import math

import torch
from torch import nn


def scaled(size, std=0.02):
    return nn.Parameter(torch.randn(size) * std)


def started(layer):
    nn.init.zeros_(layer.bias)
    return layer


class Net(nn.Module):
    def __init__(self, width=8, gain=0.5):
        super().__init__()
        self.first = nn.Linear(3, width)
        self.rest = nn.Sequential(*(nn.Linear(width, width) for _ in range(2)))
        {lines}

    def forward(self, x):
        return self.rest(self.first(x))
"""


def halved(folder: Path, lines: str) -> tuple[Written, nn.Module, str]:
    """What is written of a network in which layers of one loop have other widths now, the network, and the author's
    text."""
    name, text = f"starts{next(_NUMBER)}", NET.format(lines=lines.replace("\n", "\n        "))
    (folder / f"{name}.py").write_text(text)
    importlib.invalidate_caches()
    factory = importlib.import_module(name).Net
    net: nn.Module = factory()
    net.first, net.rest = nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 5))
    for path, tensor in [*net.named_parameters(), *net.named_buffers()]:
        owner, _, own = path.rpartition(".")
        if owner.split(".")[0] not in ("first", "rest", "last"):
            slices = tuple(slice(4) if n == 8 else slice(None) for n in tensor.shape)
            small = tensor.detach()[slices].clone()
            new = nn.Parameter(small) if isinstance(tensor, nn.Parameter) else small
            setattr(net.get_submodule(owner), own, new)
    written = write(net, Entry(factory, name="Net"))
    return written, load(written.text, folder).Net(), text


LOST: dict[str, tuple[str, str]] = {
    "a name that a loop leaves": (
        "for number in range(3):\n    last = number * 0.1\nself.p = nn.Parameter(torch.ones(width) * last)",
        "p's start"),
    "a first value by a number of several widths": (
        "self.p = nn.Parameter(torch.zeros(3))\nnn.init.normal_(self.p, std=1 / width)", "__init__"),
    "a function that gets the layer": ("self.last = started(nn.Linear(3, width))", "last's start"),
}  # fmt: skip


@pytest.mark.parametrize("form", LOST)
def test_what_cannot_stay_is_told(folder: Path, form: str) -> None:
    lines, told = LOST[form]
    written, _, text = halved(folder, lines)
    place = text.splitlines().index("        " + lines.split("\n")[-1]) + 1
    assert [t for t in written.lost if t.startswith("Net.")] == [f"Net.{told} (line {place})"]


STAY = {
    "a factor": ("nn.Parameter(torch.ones(1, width, 1) * 1e-2)", "nn.Parameter(torch.ones(1, 4, 1) * 1e-2)"),
    "a divisor": ("nn.Parameter(torch.ones(width) / 4)", "nn.Parameter(torch.ones(4) / 4)"),
    "a value": ("nn.Parameter(torch.full((width,), gain))", "nn.Parameter(torch.full((4,), gain))"),
    "a draw": ("nn.Parameter(torch.zeros(width).uniform_(-.1, .1))",
               "nn.Parameter(torch.zeros(4).uniform_(-.1, .1))"),
    "a count": ("nn.Parameter(torch.log(torch.arange(1, width + 1).float()))",
                "nn.Parameter(torch.log(torch.arange(1, 5).float()))"),
    "a function": ("scaled(width)", "scaled(4)"),
    "a view": ("nn.Parameter(torch.eye(width).unsqueeze(0))", "nn.Parameter(torch.eye(4).unsqueeze(0))"),
    "a list": ("nn.ParameterList([nn.Parameter(torch.full((w,), .3)) for w in (width, 3)])",
               "nn.ParameterList([nn.Parameter(torch.full((4,), .3)), nn.Parameter(torch.full((3,), .3))])"),
    "a dict": ('nn.ParameterDict({"a": nn.Parameter(torch.ones(width) * 2)})',
               'nn.ParameterDict({"a": nn.Parameter(torch.ones(4) * 2)})'),
}  # fmt: skip


@pytest.mark.parametrize("form", STAY)
def test_the_author_s_expression_stays(folder: Path, form: str) -> None:
    old, new = STAY[form]
    written, made, _ = halved(folder, f"self.p = {old}")
    assert f"self.p = {new}\n" in written.text and "width" not in written.text.split("class Net")[1]
    assert not beside_arguments(written.lost)
    names = {"torch": torch, "nn": nn, "gain": 0.5}
    if not {"draw", "function"} & set(form.split()):
        expected = eval(new, names)
        pairs = zip(made.p.parameters(), expected.parameters(), strict=True) if isinstance(made.p, nn.Module) else [
            (made.p, expected)]  # fmt: skip
        assert all(torch.equal(a, b) for a, b in pairs)


def test_a_buffer_starts_as_before(folder: Path) -> None:
    written, made, _ = halved(folder, 'self.register_buffer("ramp", torch.linspace(0, 1, width) / 2)')
    assert 'self.register_buffer("ramp", torch.linspace(0, 1, 4) / 2)\n' in written.text
    assert not beside_arguments(written.lost)
    assert torch.equal(made.get_buffer("ramp"), torch.linspace(0, 1, 4) / 2)


def test_parameters_that_a_loop_adds_start_as_before(folder: Path) -> None:
    loop = "self.p = nn.ParameterList()\nfor _ in range(2):\n    self.p.append(nn.Parameter(torch.ones(width) * 1e-2))"
    written, made, _ = halved(folder, loop)
    assert [p.tolist() for p in made.p] == [[pytest.approx(1e-2)] * 4] * 2
    assert not beside_arguments(written.lost)


def test_a_first_value_is_computed_from_the_width_that_there_is(folder: Path) -> None:
    lines = "n = width * 3\nself.p = nn.Parameter(torch.empty(n // 3))\nnn.init.constant_(self.p, 1 / math.sqrt(gain))"
    written, made, _ = halved(folder, lines)
    assert "nn.init.constant_(self.p, 1 / math.sqrt(gain))" in written.text
    assert made.p.tolist() == [pytest.approx(2**0.5)] * 4


LOOP = """from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        layers, c = [], 3
        for d in 2 * [8]:
            layer = nn.Linear(c, d)
            nn.init.orthogonal_(layer.weight)
            layer.bias.data.mul_(0.5)
            layers.append(layer)
            c = d
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x)
"""


def test_calls_that_set_starts_in_a_loop_that_is_written_out_are_told(folder: Path) -> None:
    (folder / "starts_loop.py").write_text(LOOP)
    importlib.invalidate_caches()
    factory = importlib.import_module("starts_loop").Net
    net = factory()
    net.layers[0], net.layers[1] = nn.Linear(3, 4), nn.Linear(4, 8)
    written = write(net, Entry(factory, name="Net"))
    assert "for d in" not in written.text
    assert {"Net.__init__ (line 10)", "Net.__init__ (line 11)"} <= {*written.lost}
