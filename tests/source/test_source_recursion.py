"""Classes that contain themselves: the author's arguments where they say enough, else the inner ones are given."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from source_helpers import assert_writes
from test_source_collections import HEAD, package, written
from torch import nn

from secateur.pruners.source import Entry

FORK = """

class Fork(nn.Module):
    def __init__(self, width, depth):
        super().__init__()
        if depth == 0:
            self.left = nn.Conv2d(width, width, 1)
            self.right = nn.Conv2d(width, width, 1)
        else:
            self.left = Fork(width, depth - 1)
            self.right = Fork(width, depth - 1)
        self.join = nn.Conv2d(2 * width, width, 1)

    def forward(self, x):
        return self.join(torch.cat([self.left(x), self.right(x)], 1))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.thin = Fork(3, 2)
        self.grow = nn.Conv2d(3, 4, 1)
        self.wide = Fork(4, 1)

    def forward(self, x):
        return self.wide(self.grow(self.thin(x)))
"""
CHAIN = """

class Chain(nn.Module):
    def __init__(self, widths):
        super().__init__()
        self.conv = nn.Conv2d(3, widths[0], 1)
        self.back = nn.Conv2d(widths[0], 3, 1)
        self.rest = Chain(widths[1:]) if len(widths) > 1 else nn.Identity()

    def forward(self, x):
        return self.rest(self.back(F.relu(self.conv(x))))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.chain = Chain((5, 4, 6))

    def forward(self, x):
        return self.chain(x)
"""
TREE = """

class Root(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, 1)

    def forward(self, *x):
        return self.conv(torch.cat(x, 1))


class Tree(nn.Module):
    def __init__(self, levels, cin, cout, root_dim=0):
        super().__init__()
        if root_dim == 0:
            root_dim = 2 * cout
        if levels == 1:
            self.tree1 = nn.Conv2d(cin, cout, 1)
            self.tree2 = nn.Conv2d(cout, cout, 1)
            self.root = Root(root_dim, cout)
        else:
            self.tree1 = Tree(levels - 1, cin, cout, root_dim=0)
            self.tree2 = Tree(levels - 1, cout, cout, root_dim=root_dim + cout)
        self.levels = levels

    def forward(self, x, more=()):
        a = self.tree1(x)
        if self.levels == 1:
            return self.root(self.tree2(a), a, *more)
        return self.tree2(a, more=(*more, a))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = Tree(1, 3, 4)
        self.two = Tree(2, 4, 5)

    def forward(self, x):
        return self.two(self.one(x))
"""
PAIR = """

class Even(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.next = Odd(n - 1) if n else None

    def forward(self, x):
        x = self.conv(x)
        return x if self.next is None else self.next(x)


class Odd(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.next = Even(n - 1)

    def forward(self, x):
        return self.next(self.conv(x))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = Even(2)

    def forward(self, x):
        return self.first(x)
"""
BRANCHES = """

class Branch(nn.Module):
    def __init__(self, levels, i, o):
        super().__init__()
        self.project = nn.Identity()
        if levels == 1:
            self.conv = nn.Conv2d(i, o, 1)
            if i != o:
                self.project = nn.Conv2d(i, o, 1)
        else:
            self.first = Branch(levels - 1, i, o)
            self.second = Branch(levels - 1, o, o)
        self.levels = levels

    def forward(self, x):
        if self.levels == 1:
            return self.conv(x) + self.project(x).mean()
        return self.second(self.first(x))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.grown = Branch(2, 2, 4)
        self.same = Branch(2, 4, 4)

    def forward(self, x):
        return self.same(self.grown(x))
"""


def test_the_levels_differ_by_the_authors_argument(folder: Path) -> None:
    text = written(folder, {"net": HEAD + FORK})
    assert "Fork(3, 2)" in text and "self.left = Fork(width, depth - 1)" in text


@pytest.mark.parametrize("net", [CHAIN, TREE, PAIR], ids=["a chain", "a tree of other sizes", "two classes in turn"])
def test_what_contains_itself_is_written(folder: Path, net: str) -> None:
    written(folder, {"net": HEAD + net})


def test_levels_of_other_widths_are_written(folder: Path) -> None:
    net = package(folder, {"net": HEAD + FORK}).Net()
    inner = net.thin.left.right
    inner.left, inner.right = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 5, 1)
    inner.join = nn.Conv2d(7, 3, 1)
    assert_writes(net.eval(), Entry(type(net), {}, "Net"), folder, torch.randn(2, 3, 4, 4))


def test_a_condition_that_no_width_tells_any_more_is_handed_to_the_inner_ones(folder: Path) -> None:
    net = package(folder, {"net": HEAD + BRANCHES}).Net()
    grown = net.grown
    grown.first.conv, grown.first.project = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)
    grown.second.conv = nn.Conv2d(2, 4, 1)
    assert_writes(net.eval(), Entry(type(net), {}, "Net"), folder, torch.randn(2, 2, 4, 4))
