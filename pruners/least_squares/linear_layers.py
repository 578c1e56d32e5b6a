"""Layers that can be fitted, as systems of linear equations: one sample for each position of the output."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..run import CONV_FORWARD, paddings

_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_FORWARDS = {kind.forward for kind in (*_CONVS, nn.Linear)} | {getattr(kind, CONV_FORWARD) for kind in _CONVS}


def fittable(layer: nn.Module) -> bool:
    """Whether the layer computes what torch's own convolution or linear layer does."""
    own = getattr(type(layer), CONV_FORWARD, nn.Linear.forward)
    return type(layer).forward in _FORWARDS and own in _FORWARDS


def as_system(layer: Any, weight: Tensor) -> Tensor:
    """(groups, outputs, inputs)."""
    groups = getattr(layer, "groups", 1)
    return weight.reshape(groups, weight.shape[0] // groups, -1)


def axis_of(layer: Any, tensor: Tensor) -> int:
    """The axis of channels of an output."""
    return tensor.ndim - 1 - (0 if isinstance(layer, nn.Linear) else len(layer.kernel_size))


def positions(layer: Any, x: Tensor) -> tuple[int, ...]:
    """The sizes of the output without its channels, batch first."""
    if isinstance(layer, nn.Linear):
        return tuple(x.shape[:-1])
    spatial = len(layer.kernel_size)
    batch = tuple(x.shape[: x.ndim - spatial - 1]) or (1,)
    pads = paddings(layer)
    sizes = []
    for axis, kernel in enumerate(layer.kernel_size):
        place = 2 * (spatial - 1 - axis)
        whole = x.shape[x.ndim - spatial + axis] + pads[place] + pads[place + 1]
        sizes.append((whole - layer.dilation[axis] * (kernel - 1) - 1) // layer.stride[axis] + 1)
    return (*batch, *sizes)


def inputs_at(layer: Any, x: Tensor, rows: Tensor) -> Tensor:
    """(rows, groups, inputs): what the layer reads for these positions, numbered along the output."""
    if isinstance(layer, nn.Linear):
        return x.reshape(-1, 1, x.shape[-1])[rows]
    spatial = len(layer.kernel_size)
    where = torch.unravel_index(rows, positions(layer, x))
    x = x if x.ndim == spatial + 2 else x[None]
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = F.pad(x, paddings(layer), mode).movedim(1, -1)
    index = [where[0].view(-1, *[1] * spatial)]
    for axis, kernel in enumerate(layer.kernel_size):
        shape = [1] * (spatial + 1)
        shape[axis + 1] = kernel
        offsets = (torch.arange(kernel, device=x.device) * layer.dilation[axis]).view(shape)
        index.append(where[axis + 1].view(-1, *[1] * spatial) * layer.stride[axis] + offsets)
    return padded[tuple(index)].movedim(-1, 1).reshape(len(rows), layer.groups, -1)


def outputs_at(layer: Any, y: Tensor, rows: Tensor) -> Tensor:
    """(rows, channels)."""
    axis = axis_of(layer, y)
    return y.movedim(axis, -1).reshape(-1, y.shape[axis])[rows]


def unknowns(layer: Any) -> int:
    """For each output: its weights and a constant."""
    return math.prod(layer.weight.shape[1:]) + 1
