"""Checks of the author's that compare a size with attributes, one by one or as a whole: the attributes follow."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

from secateur.pruners.errors import NotPrunableError
from secateur.pruners.slicing import slice_model
from secateur.pruners.trace.trace import trace

NET = '''
import torch
from torch import nn


def expect(y, heads):
    if y.size(1) != heads:
        raise ValueError("another size")


class Net(nn.Module):
    def __init__(self, d=32, heads=4):
        super().__init__()
        self.h, self.d, self.shape = heads, d // heads, (6, d)
        self.inp, self.q, self.k, self.v = nn.Linear(8, d), nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, d)
        self.o, self.fc = nn.Linear(d, d), nn.Linear(d, 5)

    def forward(self, x):
        x = self.inp(x)
        {first}
        b, t, _ = x.shape
        q, k, v = (m(x).view(b, t, self.h, self.d).transpose(1, 2) for m in (self.q, self.k, self.v))
        y = torch.matmul((torch.matmul(q, k.transpose(2, 3)) / self.d ** 0.5).softmax(-1), v)
        {check}
        return self.fc((x + self.o(y.transpose(1, 2).reshape(b, t, -1))).mean(1))

    def expected(self):
        return self.h, 6, self.d
'''


def _load(text: str, folder: Path) -> ModuleType:
    path = folder / "net.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("net", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _halved(net: str, folder: Path) -> torch.nn.Module:
    torch.manual_seed(0)
    model, x = _load(net, folder).Net().eval(), torch.randn(2, 6, 8)
    graph = trace(model, x)
    kept = {w.name: list(range(w.size // 2)) for w in graph.widths if w.size > 1}
    sliced = slice_model(model, graph, kept, x)
    assert sliced.runs
    assert sliced.model(x).shape == (2, 5)
    return sliced.model


def test_a_check_against_a_number_in_the_code_is_shown_as_it_is(tmp_path: Path) -> None:
    net = NET.format(first="", check='if y.shape[1] + y.shape[3] != 12:\n            raise ValueError("another size")')
    with pytest.raises(NotPrunableError, match=r"ValueError: another size \(.*net\.py:\d+\)"):
        _halved(net, tmp_path)


WRONG = 'raise ValueError("another size")'


@pytest.mark.parametrize(
    "check",
    [
        f"if y.size() != (b, self.h, t, self.d):\n            {WRONG}",
        f"if list(y.shape) != [b, self.h, t, self.d]:\n            {WRONG}",
        f"if tuple(y.shape[1:]) != (self.h, t, self.d) or y.dim() != 4:\n            {WRONG}",
        "assert y.shape == (b, self.h, t, self.d), 'another size'",
        "assert torch.Size([self.h, t, self.d]) == y.shape[1:]",
        "assert y.shape[1] == self.h",
        "z = y.flatten(0, 1)\n        assert z.shape == (b * self.h, t, self.d)",
        "torch._assert(y.shape[-3] == self.h, 'another size')",
        "assert y.shape[1:] == self.expected()",
        "expect(y, self.h)",
        "expect(heads=self.h, y=y)",
        "heads = self.h\n        assert y.size(1) == heads",
        f"_, n, _, c = y.shape\n        if n != self.h or c != self.d:\n            {WRONG}",
    ],
)
def test_heads_follow(check: str, tmp_path: Path) -> None:
    model = _halved(NET.format(first="", check=check), tmp_path)
    assert (model.h, model.d) == (2, 8)


def test_a_shape_that_is_an_attribute_follows(tmp_path: Path) -> None:
    check = f"if x.shape[1:] != self.shape:\n            {WRONG}"
    model = _halved(NET.format(first=check, check=""), tmp_path)
    assert model.shape == (6, 16)
