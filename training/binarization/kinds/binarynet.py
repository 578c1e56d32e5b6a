"""BinaryNet (Hubara et al. 2016): weights and activations of one bit."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .. import sign_clipped, sign_identity
from .binaryconnect import BinaryConnectConv2d, BinaryConnectLinear
from .registry import Kind, clip_latent, register


class BinaryNetConv2d(nn.Conv2d):
    """A convolution of signs with signs."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(sign_clipped(x), sign_identity(self.weight), self.bias)


class BinaryNetLinear(nn.Linear):
    """A linear layer of signs with signs."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(sign_clipped(x), sign_identity(self.weight), self.bias)


BINARYNET = register(
    Kind(
        "BinaryNet", BinaryNetConv2d, BinaryNetLinear, BinaryConnectConv2d, BinaryConnectLinear, 1, 1,
        after_step=clip_latent,
        weight_quantizer=lambda weight, layer: sign_identity(weight),
    )
)  # fmt: skip
