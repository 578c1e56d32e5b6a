"""How constructors read whose instances have widths that differ: the author's expressions in the widths there are."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from source_helpers import assert_writes
from torch import Tensor, nn

from secateur.pruners.slicing import slice_model
from secateur.pruners.source import Entry
from secateur.pruners.trace.trace import trace


class Join(nn.Module):
    def __init__(self, in_planes: int, planes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_planes, planes, 1)

    def forward(self, parts: list[Tensor]) -> Tensor:
        return F.relu(self.conv(torch.cat(parts, 1)))


class Node(nn.Module):
    def __init__(self, in_planes: int, planes: int, parts: int = 2) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_planes, planes, 3, padding=1)
        self.rest = nn.ModuleList([nn.Conv2d(planes, planes, 3, padding=1) for _ in range(parts - 1)])
        self.join = Join(parts * planes, planes)
        self.squeeze = nn.Linear(planes, planes // 4)
        self.excite = nn.Linear(planes // 4, planes)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        found = [first]
        for conv in self.rest:
            found.append(first + conv(found[-1]))
        x = self.join(found)
        gate = self.excite(F.relu(self.squeeze(x.mean((2, 3)))))
        return x * gate.sigmoid()[:, :, None, None]


class Nodes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = Node(3, 16)
        self.two = Node(16, 24, parts=3)
        self.three = Node(24, 32)
        self.head = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.three(self.two(self.one(x))).mean((2, 3)))


def test_an_expression_of_the_author_stays_with_another_width(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Nodes().eval(), torch.randn(2, 3, 8, 8)
    graph = trace(model, x)
    kept = {w.name: list(range(w.size - 1 - i % 5)) for i, w in enumerate(graph.widths)}
    sliced = slice_model(model, graph, kept, x)
    text = assert_writes(sliced.model, Entry(Nodes, {}, "Nodes"), tmp_path, x, rewrites=sliced.literals)
    assert "self.join = Join(parts * first_planes, planes)" in text
    assert "self.squeeze = nn.Linear(planes, squeeze_features)" in text
    assert "self.excite = nn.Linear(squeeze_features, planes)" in text
