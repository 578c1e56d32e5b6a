"""Layers that are chosen by a word with its options, ``act=("leaky", {"negative_slope": 0.2})``."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from forms import pruned

NET = '''
KINDS = {{"leaky": nn.LeakyReLU, "hard": nn.Hardtanh, "elu": nn.ELU}}


class Choice(nn.Sequential):
    def __init__(self, order, act=None, norm=None):
        super().__init__()
        layers = {{"A": None, "N": None}}
        if act is not None:
            {chosen}
            layers["A"] = KINDS[kind](**options)
        if norm is not None:
            layers["N"] = nn.BatchNorm2d(norm)
        for letter in order:
            if layers[letter] is not None:
                self.add_module(letter, layers[letter])


class Block(nn.Module):
    def __init__(self, cin, cout, order="NA", act=None, only=False):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, 3, padding=1)
        self.rest = nn.Identity() if only else Choice(order, act, cout if act is not None else None)

    def forward(self, x):
        return self.rest(self.conv(x))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = Block(3, 8, act={first})
        self.two = Block(8, 12, {order}act={second})
        self.three = Block(12, 8)
        self.four = Block(8, 4, act={first}, only=True)
        self.fc = nn.Linear(4, 5)

    def forward(self, x):
        return self.fc(self.four(self.three(self.two(self.one(x)))).mean((2, 3)))
'''
TUPLE, LIST, DICT = "kind, options = act", "kind, *rest = act; options = dict(rest)", "(kind, options), = act.items()"
FORMS = {
    "a tuple of word and dict": (TUPLE, '("leaky", {"negative_slope": 0.2})', '("hard", {"min_val": -2.0})'),
    "the same word with other options": (TUPLE, '("elu", {"alpha": 0.5})', '("elu", {"alpha": 2.0})'),
    "a list of pairs": (LIST, '["leaky", ["negative_slope", 0.2]]', '["elu", ["alpha", 0.5]]'),
    "a dict of dicts": (DICT, '{"leaky": {"negative_slope": 0.2}}', '{"hard": {"min_val": -2.0}}'),
}


@pytest.mark.parametrize("order", ["", 'order="AN", '], ids=["one order everywhere", "another order in one block"])
@pytest.mark.parametrize("form", FORMS)
def test_they_may_differ_between_blocks(form: str, order: str, tmp_path: Path) -> None:
    chosen, first, second = FORMS[form]
    net = NET.format(chosen=chosen, first=first, second=second, order=order)
    _, widths, text = pruned(tmp_path, net, example=torch.randn(2, 3, 8, 8))
    assert len([n for n, size in widths.items() if size > 1]) >= 3
    assert "class Choice(nn.Sequential)" in text


NOTED = '''
class Block(nn.Module):
    def __init__(self, width: int, act: {note} = None) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(width, 8, 3, padding=1), act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) if self.act is None else self.act(self.conv(x))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.fc = Block(3, act=torch.tanh), Block(8, act=None), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.two(self.one(x)).mean((2, 3)))
'''


@pytest.mark.parametrize(
    ("note", "wanted"),
    [
        ("callable", "act: callable = None"),
        ('"torch.Tensor"', 'act: "torch.Tensor" = None'),
        ("type(torch.tanh)", "act: type(torch.tanh) = None"),
    ],
    ids=["a function", "a text", "a type"],
)
def test_an_annotation_is_one_that_can_be_run(note: str, wanted: str, tmp_path: Path) -> None:
    assert wanted in pruned(tmp_path, NOTED.format(note=note), example=torch.randn(2, 3, 8, 8))[2]
