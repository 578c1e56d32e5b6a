"""BinaryConnect (Courbariaux et al. 2015): weights of one bit on real activations.

The paper's loop is: binarize the weights, run forward and backward with them, restore the real weights, step with the
gradient of the binary ones, clip to [-1, 1]. Here the real weights never leave their place: the layer binarizes them
as it runs, the straight-through gradient arrives at them unchanged, and ``after_step`` clips them.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .. import sign_identity, sign_stochastic
from .registry import FULL, Kind, clip_latent, register, require


class BinaryConnectConv2d(nn.Conv2d):
    """A convolution with the signs of its weights."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, sign_identity(self.weight), self.bias)


class BinaryConnectLinear(nn.Linear):
    """A linear layer with the signs of its weights."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, sign_identity(self.weight), self.bias)


class StochasticConnectConv2d(nn.Conv2d):
    """A convolution with random signs while it trains, and with its real weights otherwise."""

    def forward(self, x: Tensor) -> Tensor:
        weight = sign_stochastic(self.weight) if self.training else self.weight
        return self._conv_forward(x, weight, self.bias)


class StochasticConnectLinear(nn.Linear):
    """A linear layer with random signs while it trains, and with its real weights otherwise."""

    def forward(self, x: Tensor) -> Tensor:
        weight = sign_stochastic(self.weight) if self.training else self.weight
        return F.linear(x, weight, self.bias)


def binaryconnect(stochastic: bool = False) -> Kind:
    """``stochastic``: draw the signs; such a network is tested with its real weights, so they are what is stored."""
    require("BinaryConnect", "stochastic", stochastic, (False, True))
    conv, linear = (
        (StochasticConnectConv2d, StochasticConnectLinear) if stochastic else (BinaryConnectConv2d, BinaryConnectLinear)
    )
    return Kind(
        "BinaryConnect", conv, linear, conv, linear, FULL if stochastic else 1, FULL,
        activation=nn.ReLU, after_step=clip_latent, first_layer="binary", last_layer="binary",
        weight_quantizer=lambda weight, layer: sign_identity(weight),
        options={"stochastic": False}, variant=binaryconnect,
    )  # fmt: skip


BINARYCONNECT = register(binaryconnect())
