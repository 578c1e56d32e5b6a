"""What binary networks need around their layers: a norm that only shifts, padding with signs, coded inputs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .quantizers import sign


class IRBatchNorm2d(nn.Module):
    """y = flip (x + offset), per channel: all that is left of a batch norm in front of a sign.

    ``offset`` is learned, from 0. ``flip`` is 1, or -1 where the batch norm that was folded had a negative gain.
    """

    flip: Tensor

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("flip", torch.ones(num_features))

    def forward(self, x: Tensor) -> Tensor:
        return self.flip.view(-1, 1, 1) * (x + self.offset.view(-1, 1, 1))


@torch.no_grad()
def fold(norm: nn.BatchNorm2d) -> IRBatchNorm2d:
    """The shift with the signs of this batch norm in eval mode:
    sign(gain (x - mean) / std + bias) = sign(gain) sign(x - mean + bias std / gain); where gain = 0, sign(bias)."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("a batch norm without running statistics has nothing to fold: track_running_stats=True")
    std = (norm.running_var + norm.eps).sqrt()
    gain = norm.weight if norm.affine else torch.ones_like(std)
    bias = norm.bias if norm.affine else torch.zeros_like(std)
    folded = IRBatchNorm2d(norm.num_features).to(std)
    folded.flip.copy_(torch.where(gain < 0, -1.0, 1.0))
    always = sign(bias) * torch.finfo(std.dtype).max
    folded.offset.copy_(torch.where(gain == 0, always, bias * std / gain - norm.running_mean))
    return folded


def checkerboard_padded(x: Tensor, height: int, width: int) -> Tensor:
    """So many rows and columns of +1 and -1 in turns on each side, as zeros are no binary values: +1 where row + column
    of the result is even."""
    ring = (width, width, height, height)
    outside = F.pad(torch.zeros(x.shape[-2:], dtype=x.dtype, device=x.device), ring, value=1.0)
    rows, columns = (torch.arange(n, device=x.device) for n in outside.shape)
    board = 1 - 2 * ((rows.view(-1, 1) + columns) % 2).to(x.dtype)
    return F.pad(x, ring) + board * outside


class ThermometerCoding(nn.Module):
    """Each channel becomes as many as it has thresholds: +1 where it reaches the threshold, else -1 (3 -> 9)."""

    thresholds: Tensor

    def __init__(self, thresholds: Tensor) -> None:
        """``thresholds``: (channels, levels), ascending."""
        super().__init__()
        self.register_buffer("thresholds", thresholds)

    def forward(self, x: Tensor) -> Tensor:
        return sign(x.unsqueeze(2) - self.thresholds.to(x.device).unsqueeze(-1).unsqueeze(-1)).flatten(1, 2)


def thermometer(images: Tensor, levels: int = 3) -> ThermometerCoding:
    """Thresholds that split the values of each channel of these images (N, C, H, W) into parts of equal size."""
    values = images.transpose(0, 1).flatten(1).sort(dim=1).values
    places = torch.arange(1, levels + 1) * values.shape[1] // (levels + 1)
    return ThermometerCoding(values[:, places])
