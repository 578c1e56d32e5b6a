"""BWN, binary weight networks (Rastegari et al. 2016, "XNOR-Net", section 3.1): scaled signs on real activations."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .. import scaled_sign
from .registry import FULL, Kind, centre_and_clip_latent, register


class BwnConv2d(nn.Conv2d):
    """A convolution with the signs of its weights, scaled by each filter's mean magnitude."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, scaled_sign(self.weight), self.bias)


class BwnLinear(nn.Linear):
    """A linear layer with the signs of its weights, scaled by each row's mean magnitude."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, scaled_sign(self.weight), self.bias)


BWN = register(
    Kind(
        "BWN", BwnConv2d, BwnLinear, BwnConv2d, BwnLinear, 1, FULL,
        activation=nn.ReLU, after_step=centre_and_clip_latent,
        weight_quantizer=lambda weight, layer: scaled_sign(weight), scales_per_filter=True,
    )
)  # fmt: skip
