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


def _unevenly(factory: type[nn.Module], folder: Path) -> str:
    """The text of a network whose widths lost one to five channels."""
    torch.manual_seed(0)
    model, x = factory().eval(), torch.randn(2, 3, 8, 8)
    graph = trace(model, x)
    kept = {w.name: list(range(w.size - 1 - i % 5)) for i, w in enumerate(graph.widths)}
    sliced = slice_model(model, graph, kept, x)
    entry = Entry(factory, {}, factory.__name__)
    return assert_writes(sliced.model, entry, folder, x, rewrites=sliced.literals)


def test_an_expression_of_the_author_stays_with_another_width(tmp_path: Path) -> None:
    text = _unevenly(Nodes, tmp_path)
    assert "self.join = Join(parts * first_planes, planes)" in text
    assert "self.squeeze = nn.Linear(planes, squeeze_features)" in text
    assert "self.excite = nn.Linear(squeeze_features, planes)" in text


class Shortcut(nn.Module):
    def __init__(self, in_planes: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        self.same = in_planes == planes
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride=stride, padding=1)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1)
        self.skip = nn.Conv2d(in_planes, planes, 1, stride=stride) if stride != 1 else None
        self.also = ((not self.same) and nn.Conv2d(in_planes, planes, 3, stride=stride, padding=1)) or None

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(F.relu(self.conv1(x)))
        if self.skip is not None and self.also:
            return F.relu(out + self.skip(x) + self.also(x))
        return F.relu(out + x)


class Stage(nn.Module):
    def __init__(self, in_planes: int, planes: int, stride: int) -> None:
        super().__init__()
        blocks = [Shortcut((i == 0 and in_planes) or planes, planes, stride if i == 0 else 1) for i in range(2)]
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.blocks(x)
        return out


class Stages(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        n = 2
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.stages = nn.Sequential(*[Stage(16 * (i + 1), 16 * (i + 2), 2) for i in range(n)])
        self.head = nn.Linear(48, 4)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                n = m.kernel_size[0] * m.out_channels
                nn.init.normal_(m.weight, 0, (2.0 / n) ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stages(self.stem(x)).mean((2, 3)))


def test_layers_that_only_some_instances_have_keep_the_condition(tmp_path: Path) -> None:
    text = _unevenly(Stages, tmp_path)
    assert "self.skip = nn.Conv2d(in_planes, planes, 1, stride=stride) if stride != 1 else None" in text
    assert "self.also = nn.Conv2d(in_planes, planes, 3, stride=stride, padding=1) if not self.same else None" in text


def test_a_name_that_nothing_else_has_is_the_authors(tmp_path: Path) -> None:
    text = _unevenly(Stages, tmp_path)
    assert "(self, in_planes: int, planes: int, blocks_0_conv1_planes: int, blocks_1_conv1_planes: int) -> None" in text
    assert "Shortcut(in_planes, blocks_0_conv1_planes, planes, stride=2)" in text


def test_a_loop_that_only_initialises_stays_with_a_number_that_it_sets_itself(tmp_path: Path) -> None:
    assert "                n = m.kernel_size[0] * m.out_channels\n" in _unevenly(Stages, tmp_path)


class Scaled(nn.Module):
    def __init__(self, in_planes: int, planes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_planes, planes, 3, padding=1)
        self.scales = [torch.tensor([0.5, 2.0])]
        self.scales.append(torch.tensor([0.25]))
        self.named = {"up": torch.tensor(3.0), "by": 2}

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * self.scales[0][1] + self.scales[1] * self.named["up"] * self.named["by"]


class ScaledTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.Sequential(*[Scaled(3 if i == 0 else 8 * i, 8 * (i + 1)) for i in range(3)])
        self.head = nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.parts(x).mean((2, 3)))


def test_lists_of_small_tensors_stay(tmp_path: Path) -> None:
    assert "self.scales.append(torch.tensor([0.25]))" in _unevenly(ScaledTwice, tmp_path)
