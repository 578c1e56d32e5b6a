"""Networks without a class of their own: a function that returns torch's ``nn.Sequential``."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from forms import pruned
from source_helpers import load
from torch import nn

from secateur.pruners.errors import SourceError
from secateur.pruners.source import Entry, write_source

REFUSED = [
    pytest.param(nn.Linear, {"in_features": 4, "out_features": 4}, "is torch's own class", id="a class of torch's"),
    pytest.param(lambda: nn.Sequential(nn.Linear(2, 2)), {}, "Sequential is torch's own class", id="a lambda"),
]


@pytest.mark.parametrize(("make", "arguments", "why"), REFUSED)
def test_what_can_not_be_written_is_refused(make: object, arguments: dict[str, int], why: str) -> None:
    with pytest.raises(SourceError, match=why):
        write_source(make(**arguments).eval(), Entry(make, arguments, "net"))  # type: ignore[operator,arg-type]


STACKED = '''
def block(inner, outer):
    return [nn.Conv2d(inner, outer, 3, padding=1, bias=False), nn.BatchNorm2d(outer), nn.ReLU()]

def Net(widths=(8, 12, 8)):
    """A plain stack."""
    layers, inner = [], 3
    for outer in widths:  # one block for each width
        layers += block(inner, outer)
        inner = outer
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inner, 4))

'''

OWN_BLOCKS = """
import torch.nn as N

class Residual(N.Module):
    def __init__(self, dim, fn):
        super().__init__()
        self.fn = fn
        self.norm = N.LayerNorm(dim)

    def forward(self, x):
        return self.fn(self.norm(x)) + x

def feed_forward(dim, inner):
    return N.Sequential(N.Linear(dim, inner), N.GELU(), N.Linear(inner, dim))

def Net(dim=8, depth=2) -> N.Sequential:
    return N.Sequential(
        N.Linear(6, dim),
        *[Residual(dim, feed_forward(dim, 12)) for _ in range(depth)],
        N.Linear(dim, 4),
    )

"""

NAMED = """
from collections import OrderedDict
from torch.nn import Sequential, Conv2d, ReLU, Flatten, Linear

def Net():
    net = Sequential(OrderedDict([("conv1", Conv2d(3, 8, 3)), ("relu", ReLU()), ("conv2", Conv2d(8, 8, 3))]))
    net.add_module("flat", Flatten())
    net.add_module("head", Linear(8 * 4 * 4, 4))
    return net

"""

TIED = """
def Net():
    first, last = nn.Linear(4, 4), nn.Linear(4, 4)
    net = nn.Sequential(nn.Linear(6, 4), first, nn.ReLU(), last, nn.Linear(4, 2))
    net[3].weight = net[1].weight
    net[0].requires_grad_(False)
    return net
"""

INSIDE = """
def Net():
    body = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh())
    return nn.Sequential(body, nn.Sequential(nn.Dropout(0.1), nn.Linear(8, 3)))

"""


@pytest.mark.parametrize(
    ("source", "example"),
    [
        pytest.param(STACKED, torch.randn(2, 3, 8, 8), id="a loop over widths"),
        pytest.param(OWN_BLOCKS, torch.randn(2, 5, 6), id="blocks of the author's"),
        pytest.param(NAMED, torch.randn(2, 3, 8, 8), id="named layers"),
        pytest.param(TIED, torch.randn(2, 6), id="tied weights"),
        pytest.param(INSIDE, torch.randn(2, 6), id="stacks in a stack"),
    ],
)
def test_the_function_returns_the_narrow_layers(source: str, example: torch.Tensor, tmp_path: Path) -> None:
    _, widths, text = pruned(tmp_path, source, example=example)
    made = next(s for s in ast.parse(text).body if isinstance(s, ast.FunctionDef) and s.name == "Net")
    net = load(text, tmp_path).Net()
    assert widths and type(net) is nn.Sequential
    assert isinstance(made.body[-1], ast.Return)
    assert (ast.get_docstring(made) or "") == ("A plain stack." if source is STACKED else "")
    assert net(example).shape[0] == 2
