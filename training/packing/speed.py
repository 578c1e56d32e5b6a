"""How much faster packed layers are than real ones: one convolution, against channels and against filter size."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...pruners.latency import Run, in_turns
from .layers import PackedConv2d

CHANNELS = (1, 4, 16, 32, 64, 128, 256, 512, 1024)
FILTERS = (1, 3, 5, 7, 9, 11, 13, 15)
SIDE, OUTPUTS, FILTER, CHANNELS_OF_FILTERS = 14, 256, 3, 256
"""The convolution of XNOR-Net's Fig. 4 b and c, but for the one size that changes; images have 14 x 14 pixels."""

NCHW, CHANNELS_LAST, READY = "float32, NCHW", "float32, channels_last", "float32, weights in oneDNN's layout"


@dataclass(frozen=True)
class SpeedUp:
    """One point of a figure. ``seconds``: of a convolution of one image, of each float form and of the packed layer."""

    channels: int
    filter: int
    packed: float
    seconds: dict[str, float]

    @property
    def theory(self) -> float:
        """Operations of the real convolution for each of the binary one, which does 64 at once and then scales."""
        work = self.channels * self.filter**2
        return 64 * work / (work + 64)

    @property
    def measured(self) -> dict[str, float]:
        return {name: seconds / self.packed for name, seconds in self.seconds.items()}


def against_channels(device: torch.device, rounds: int, told: Callable[[str], None]) -> list[SpeedUp]:
    """Filters of 3 x 3."""
    return list(_swept(((c, FILTER) for c in CHANNELS), device, rounds, told))


def against_filters(device: torch.device, rounds: int, told: Callable[[str], None]) -> list[SpeedUp]:
    """256 channels."""
    return list(_swept(((CHANNELS_OF_FILTERS, k) for k in FILTERS), device, rounds, told))


def _swept(
    sizes: Iterator[tuple[int, int]], device: torch.device, rounds: int, told: Callable[[str], None]
) -> Iterator[SpeedUp]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for channels, size in sizes:
            packed, *rivals = runs_of(channels, size, device)
            first, *others = in_turns([packed, *rivals], rounds)
            told(f"{channels} channels, {size}x{size}")
            yield SpeedUp(channels, size, first, dict(zip((r.name for r in rivals), others, strict=True)))


def runs_of(channels: int, size: int, device: torch.device) -> Sequence[Run]:
    """The packed layer, which takes and gives float32, and its rivals."""
    x = torch.randn(1, channels, SIDE, SIDE, device=device)
    last = x.contiguous(memory_format=torch.channels_last)
    packed = PackedConv2d(channels, OUTPUTS, size, padding=size // 2)
    packed.bits.random_(0, 256)
    conv: nn.Module = nn.Conv2d(channels, OUTPUTS, size, padding=size // 2, bias=False).to(device)
    other = copy.deepcopy(conv).to(memory_format=torch.channels_last)
    runs = [Run("packed", packed.to(device), (last,)), Run(NCHW, conv, (x,)), Run(CHANNELS_LAST, other, (last,))]
    if device.type == "cpu" and torch.backends.mkldnn.is_available():
        runs.append(Run(READY, Prepacked(conv, x.shape), (last,)))
    return runs


class Prepacked(nn.Module):
    """A convolution whose weights are in oneDNN's own layout already, which torch's gives them at every call."""

    def __init__(self, conv: Any, size: torch.Size, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.conv = conv
        sizes = (conv.padding, conv.stride, conv.dilation)
        self.where = [list(s) for s in sizes]
        weight = conv.weight.detach().to(dtype)
        reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
        self.weight = reorder(weight.to_mkldnn(), *self.where, conv.groups, list(size))
        self.bias = None if conv.bias is None else conv.bias.detach().to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        more: tuple[Any, ...] = (self.conv.groups, "none", [], "")
        return torch.ops.mkldnn._convolution_pointwise(x, self.weight, self.bias, *self.where, *more)
