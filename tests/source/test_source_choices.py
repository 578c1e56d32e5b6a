"""``one if test else other`` where a constructor makes a layer: it stays, with its test where that still holds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from forms import pruned

NET = '''
class Block(nn.Module):
    def __init__(self, cin, cout, stride=1, act=True, kind="plain"):
        super().__init__()
        {body}

    def forward(self, x):
        {forward}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.one = Block(8, 8)
        self.two = Block(8, 16, stride=2, act=False, kind="deep")
        self.three = Block(16, 16, kind="wide")
        self.fc = nn.Linear(16, 5)

    def forward(self, x):
        return self.fc(self.three(self.two(self.one(self.stem(x)))).mean((2, 3)))
'''
CONV = "nn.Conv2d(cin, cout, 3, stride, 1)"
CHOICES = {
    "an attribute": (
        f"self.conv = {CONV}\n        self.act = nn.SiLU() if act else nn.Identity()  # as they like",
        "return self.act(self.conv(x))",
        "self.act = nn.SiLU() if act else nn.Identity()  # as they like",
    ),
    "a part of a sequence": (
        f"""self.body = nn.Sequential(
            {CONV},
            # only where it is asked for
            nn.ReLU(inplace=True) if act else nn.Sequential(),
            nn.BatchNorm2d(cout),
        )""",
        "return self.body(x)",
        "            # only where it is asked for\n            nn.ReLU(inplace=True) if act else nn.Sequential(),\n",
    ),
    "sequences on both sides": (
        f"""self.conv = {CONV}
        inner = nn.Conv2d(cout, 6, 1)
        self.tail = nn.Sequential(inner, nn.Conv2d(6, cout, 1)) if act else nn.Sequential(nn.Tanh())""",
        "return self.tail(self.conv(x))",
        ") if act else nn.Sequential(nn.Tanh())",
    ),
    "one inside the other": (
        f"""self.conv = {CONV}
        self.act = nn.ReLU() if kind == "plain" else nn.Tanh() if kind == "deep" else nn.GELU()""",
        "return self.act(self.conv(x))",
        'self.act = nn.ReLU() if kind == "plain" else nn.Tanh() if kind == "deep" else nn.GELU()',
    ),
    "a list of layers": (
        f"""self.layers = nn.ModuleList([{CONV}, nn.BatchNorm2d(cout) if stride > 1 else nn.Identity()])""",
        "for layer in self.layers:\n            x = layer(x)\n        return x",
        "nn.BatchNorm2d(cout) if stride > 1 else nn.Identity()",
    ),
}


def _written(folder: Path, body: str, forward: str) -> str:
    return pruned(folder, NET.format(body=body, forward=forward), example=torch.randn(2, 3, 8, 8))[2]


@pytest.mark.parametrize("form", CHOICES)
def test_a_choice_stays_with_its_test(form: str, tmp_path: Path) -> None:
    body, forward, wanted = CHOICES[form]
    assert wanted in _written(tmp_path, body, forward)


def test_a_test_that_widths_no_longer_answer_becomes_a_flag(tmp_path: Path) -> None:
    body = f"""self.conv = {CONV}
        self.shortcut = nn.Identity() if cin * 2 == 16 and cout == 8 else nn.Conv2d(cin, cout, 1, stride)"""
    text = _written(tmp_path, body, "return (self.conv(x) + self.shortcut(x)).relu()")
    assert "nn.Identity() if branch_1 else nn.Conv2d(cin, cout, 1, stride)" in text
