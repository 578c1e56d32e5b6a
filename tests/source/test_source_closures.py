"""Functions that a constructor makes and hands to a layer: their numbers follow the widths. The emitted file is run."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from source_helpers import load
from torch import nn

from secateur.pruners.errors import SharedNumberError
from secateur.pruners.slicing import slice_model, zero_out
from secateur.pruners.source import Entry, write_source
from secateur.pruners.trace.trace import trace

HEAD = """
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn


def padded(n):
    def f(x):
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, n, n))

    return f


def behind(x, n):
    return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, n))


def both(x, n):
    return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, n, n))


class LambdaLayer(nn.Module):
    def __init__(self, lambd):
        super().__init__()
        self.lambd = lambd

    def forward(self, x):
        return self.lambd(x)


class Block(nn.Module):
    def __init__(self, in_planes, planes, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(in_planes, planes, 3, stride, 1)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_planes != planes:
"""
TAIL = """
    def forward(self, x):
        return F.relu(self.conv(x) + self.shortcut(x))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.one = Block(8, 8)
        self.two = Block(8, 16, 2)
        self.three = Block(16, 32, 2)
        self.fc = nn.Linear(32, 5)

    def forward(self, x):
        return self.fc(self.three(self.two(self.one(self.stem(x)))).mean((2, 3)))
"""
QUARTERS = "(0, 0, 0, 0, planes // 4, planes // 4)"
LAMBDA = f"self.shortcut = LambdaLayer(lambda x: F.pad(x[:, :, ::2, ::2], {QUARTERS}))"


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    sys.modules.pop("closures_net", None)


def _net(folder: Path, statements: str) -> type[nn.Module]:
    rows = "".join(f"            {row}\n" if row else "\n" for row in statements.split("\n"))
    (folder / "closures_net.py").write_text(HEAD + rows + TAIL)
    spec = importlib.util.spec_from_file_location("closures_net", folder / "closures_net.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["closures_net"] = module
    spec.loader.exec_module(module)
    found: type[nn.Module] = module.Net
    return found


def _written(folder: Path, statements: str, seed: int = 0) -> str:
    """The source of the network with some channels cut, after it was run beside the cut network."""
    factory = _net(folder, statements)
    torch.manual_seed(0)
    model, x = factory().eval(), torch.randn(2, 3, 8, 8)
    graph, draws = trace(model, x), torch.Generator().manual_seed(seed)
    kept = {}
    for width in graph.widths:
        chosen = torch.randperm(width.size, generator=draws)[: max(1, width.size // 2)]
        kept[width.name] = sorted(chosen.tolist())
    sliced = slice_model(model, graph, kept, x)
    text = write_source(sliced.model, Entry(factory, {}, "Net"), rewrites=sliced.literals)
    twin = load(text, folder).Net().eval()
    twin.load_state_dict(sliced.model.state_dict())
    torch.testing.assert_close(twin(x), zero_out(model, graph, kept)(x))
    return text


def test_a_partial_that_hands_one_number_to_two_places_is_refused_with_the_line(made: Path) -> None:
    with pytest.raises(SharedNumberError, match=r"closures_net\.py:21: one number in the code counts two different"):
        _written(made, "self.shortcut = LambdaLayer(partial(both, n=planes // 4))", seed=1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "statements",
    [
        LAMBDA,
        f"pads = {QUARTERS}\nself.shortcut = LambdaLayer(lambda x: F.pad(x[:, :, ::2, ::2], pads))",
        "n = planes // 4\nself.shortcut = LambdaLayer(lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, n, n)))",
        "self.n = planes // 4\n"
        "self.shortcut = LambdaLayer(lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.n, self.n)))",
        f"def pad(x):\n    return F.pad(x[:, :, ::2, ::2], {QUARTERS})\n\nself.shortcut = LambdaLayer(pad)",
        "self.shortcut = LambdaLayer(padded(planes // 4))",
        "self.shortcut = LambdaLayer(partial(behind, n=planes - in_planes))",
        "self.shortcut = LambdaLayer(lambda x: torch.cat([x, x.new_zeros(x.shape[0], planes - in_planes, "
        "*x.shape[2:])], 1)[:, :, ::2, ::2])",
    ],
    ids=["a lambda", "a tuple", "a local number", "an attribute", "a local function", "a function that makes it",
         "a partial", "zeros behind"],
)  # fmt: skip
def test_the_numbers_of_a_function_follow_the_widths(statements: str, seed: int, made: Path) -> None:
    assert "nn.Linear(16, 5)" in _written(made, statements, seed)


def test_a_lambda_whose_expression_is_right_stays_as_it_is(made: Path) -> None:
    factory = _net(made, LAMBDA)
    text = write_source(factory(), Entry(factory, {}, "Net"))
    assert LAMBDA in text
