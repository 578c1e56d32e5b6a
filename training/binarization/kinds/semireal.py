"""SemiReal: real weights on binary activations; the step between Real and the binary kinds."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .. import sign_clipped
from .registry import FULL, Kind, register, require


class SemiRealConv2d(nn.Conv2d):
    """A convolution of the signs of its inputs."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(sign_clipped(x), self.weight, self.bias)


class SemiRealLinear(nn.Linear):
    """A linear layer on the signs of its inputs."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(sign_clipped(x), self.weight, self.bias)


class HardtanhConv2d(nn.Conv2d):
    """A convolution of inputs that are clipped to [-1, 1]."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(F.hardtanh(x), self.weight, self.bias)


class HardtanhLinear(nn.Linear):
    """A linear layer on inputs that are clipped to [-1, 1]."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.hardtanh(x), self.weight, self.bias)


def semireal(activation: str = "sign") -> Kind:
    """``activation``: "sign", or "hardtanh", the softer warm-up that the original code ran under this name."""
    require("SemiReal", "activation", activation, ("sign", "hardtanh"))
    if activation == "hardtanh":
        return Kind("SemiReal", HardtanhConv2d, HardtanhLinear, nn.Conv2d, nn.Linear, FULL, FULL)
    return Kind(
        "SemiReal", SemiRealConv2d, SemiRealLinear, nn.Conv2d, nn.Linear, FULL, 1,
        options={"activation": "sign"}, variant=semireal,
    )  # fmt: skip


SEMIREAL = register(semireal())
