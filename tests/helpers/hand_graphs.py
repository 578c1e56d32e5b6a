"""Small networks with channel graphs written by hand, and the plainest way to slice them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import networkx as nx
import numpy as np
import torch
from torch import nn

from secateur.pruners.graph import ChannelGraph, Contraction, Extent, Slot, Use, Width
from secateur.pruners.slicing import slice_model


class Plain(nn.Module):
    """conv1 - bn1 - conv2 - flatten - fc, for 3x4x4 images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 6, 3, stride=2, padding=1)
        self.fc = nn.Linear(6 * 4, 5)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.fc(torch.relu(self.conv2(x)).flatten(1))


class Grouped(nn.Module):
    """conv1 - conv2 in four convolution groups - depth-wise conv3 - fc, for 3x4x4 images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 12, 3, padding=1)
        self.conv2 = nn.Conv2d(12, 8, 3, padding=1, groups=4)
        self.conv3 = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        x = torch.relu(self.conv1(x))
        x = torch.relu(self.conv3(torch.relu(self.conv2(x))))
        return self.fc(x.mean((2, 3)))


def use(slot: str, dim: int, role: str, size: int, m: int = 1, blocks: int = 1) -> Use:
    return Use(Slot(slot, dim, blocks), role, np.arange(size * m, dtype=np.int64).reshape(size, m))


def width(name: str, size: int, *uses: Use, blocks: int = 1) -> Width:
    return Width(name, size, uses, np.arange(size, dtype=np.int64) // (size // blocks), blocks)


def graph_of(model: nn.Module, widths: list[Width], positions: dict[str, int]) -> ChannelGraph:
    shapes = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    contractions = tuple(
        Contraction(w, Fraction(n * math.prod(shapes[w])), layer, tuple(_extents(w, widths)))
        for layer, n in positions.items() for w in [f"{layer}.weight"]
    )  # fmt: skip
    return ChannelGraph(tuple(widths), (), shapes, contractions, nx.Graph())


def _extents(weight: str, widths: list[Width]) -> list[Extent]:
    """What the axes of a weight stand for."""
    uses = [(w, u) for w in widths for u in w.uses if u.slot.parameter == weight]
    return [Extent(0, ((w.name, tuple(np.repeat(np.arange(w.size), u.index.shape[1]).tolist())),)) for w, u in uses]


def plain(seed: int = 0) -> tuple[Plain, ChannelGraph]:
    torch.manual_seed(seed)
    model = Plain().eval()
    norm = [use(f"bn1.{part}", 0, "per", 8) for part in ("weight", "bias", "running_mean", "running_var")]
    with torch.no_grad():
        for tensor in (model.bn1.weight, model.bn1.running_var):
            tensor.uniform_(0.5, 1.5)
        for tensor in (model.bn1.bias, model.bn1.running_mean):
            tensor.uniform_(-0.5, 0.5)
    widths = [
        width("conv1", 8, use("conv1.weight", 0, "out", 8), *norm, use("conv2.weight", 1, "in", 8)),
        width(
            "conv2",
            6,
            use("conv2.weight", 0, "out", 6),
            use("conv2.bias", 0, "per", 6),
            use("fc.weight", 1, "in", 6, m=4),
        ),
    ]
    return model, graph_of(model, widths, {"conv1": 16, "conv2": 4, "fc": 1})


def grouped(seed: int = 0) -> tuple[Grouped, ChannelGraph]:
    torch.manual_seed(seed)
    model = Grouped().eval()
    widths = [
        width(
            "conv1",
            12,
            use("conv1.weight", 0, "out", 12),
            use("conv1.bias", 0, "per", 12),
            use("conv2.weight", 1, "in", 12, blocks=4),
            blocks=4,
        ),
        width(
            "conv2",
            8,
            use("conv2.weight", 0, "out", 8),
            use("conv2.bias", 0, "per", 8),
            use("conv3.weight", 0, "per", 8),
            use("fc.weight", 1, "in", 8),
            blocks=4,
        ),
    ]
    return model, graph_of(model, widths, {"conv1": 16, "conv2": 16, "conv3": 16, "fc": 1})


def slice_by_hand(model: nn.Module, graph: ChannelGraph, kept) -> nn.Module:
    """A copy of the model that holds only the kept channels; row by row, without any cleverness."""
    masks = {(slot.parameter, slot.dim): (slot, mask) for slot, mask in graph.masks(kept).items()}
    small = copy.deepcopy(model)
    state = {}
    for name, tensor in model.state_dict().items():
        blocked = masks.get((name, 1))
        if blocked and blocked[0].blocks > 1:
            slot, mask = blocked
            per_block = mask.reshape(slot.blocks, -1)
            rows = tensor.shape[0] // slot.blocks
            tensor = torch.stack([row[torch.from_numpy(per_block[o // rows])] for o, row in enumerate(tensor)])
        for dim in range(tensor.dim()):
            found = masks.get((name, dim))
            if found and found[0].blocks == 1:
                tensor = tensor[(slice(None),) * dim + (torch.from_numpy(found[1]),)]
        state[name] = tensor
    for name, module in small.named_modules():
        if isinstance(module, nn.Conv2d):
            depthwise = module.groups == module.in_channels > 1
            rows, columns = state[f"{name}.weight"].shape[:2]
            module.groups = rows if depthwise else module.groups
            module.out_channels, module.in_channels = rows, columns * module.groups
        elif isinstance(module, nn.Linear):
            module.out_features, module.in_features = state[f"{name}.weight"].shape
        elif isinstance(module, nn.BatchNorm2d):
            module.num_features = state[f"{name}.weight"].shape[0]
        for own, parameter in module.named_parameters(prefix=name, recurse=False):
            setattr(module, own.rpartition(".")[2], nn.Parameter(state[own].clone(), parameter.requires_grad))
        for own, _ in module.named_buffers(prefix=name, recurse=False):
            setattr(module, own.rpartition(".")[2], state[own].clone())
    return small


def realize_by_slicing(graph: ChannelGraph, example_input: Any) -> Callable[[nn.Module, Any], nn.Module]:
    """The ``realize`` of a search for networks whose slices run in memory."""

    def realize(model: nn.Module, kept: Any) -> nn.Module:
        sliced = slice_model(model, graph, kept, example_input)
        assert sliced.runs
        return sliced.model

    return realize
