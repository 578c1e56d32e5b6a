"""DoReFa (Zhou et al. 2016): weights, activations and gradients of k bits each."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ....pruners.costs import register_precision
from .. import dorefa_activation, dorefa_gradient, dorefa_weight
from .registry import FULL, Kind, register, require


class DoReFaConv2d(nn.Conv2d):
    """A convolution with weights of ``weight_bits`` on activations of ``activation_bits`` (32: left as they are).
    Its gradients take ``gradient_bits``."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        bias: bool = True,
        weight_bits: int = 2,
        activation_bits: int = 2,
        gradient_bits: int = 32,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, bias=bias)
        self.weight_bits = weight_bits
        self.activation_bits = activation_bits
        self.gradient_bits = gradient_bits

    def forward(self, x: Tensor) -> Tensor:
        x = dorefa_activation(x, self.activation_bits)
        y = self._conv_forward(x, dorefa_weight(self.weight, self.weight_bits), self.bias)
        return dorefa_gradient(y, self.gradient_bits)


class DoReFaLinear(nn.Linear):
    """A linear layer with weights of ``weight_bits`` on activations of ``activation_bits`` (32: left as they are).
    Its gradients take ``gradient_bits``."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        weight_bits: int = 2,
        activation_bits: int = 2,
        gradient_bits: int = 32,
    ) -> None:
        super().__init__(in_features, out_features, bias)
        self.weight_bits = weight_bits
        self.activation_bits = activation_bits
        self.gradient_bits = gradient_bits

    def forward(self, x: Tensor) -> Tensor:
        x = dorefa_activation(x, self.activation_bits)
        y = F.linear(x, dorefa_weight(self.weight, self.weight_bits), self.bias)
        return dorefa_gradient(y, self.gradient_bits)


def dorefa(weight_bits: int = 2, activation_bits: int = 2, gradient_bits: int = FULL) -> Kind:
    """Bits of weights, activations and gradients; 2, 2 and 32 as in the experiments this toolkit grew out of."""
    bits: dict[str, Any] = {
        "weight_bits": weight_bits,
        "activation_bits": activation_bits,
        "gradient_bits": gradient_bits,
    }
    for name, value in bits.items():
        require("DoReFa", name, value, range(1, FULL + 1))
    on_real = {**bits, "activation_bits": FULL}
    return Kind(
        "DoReFa", partial(DoReFaConv2d, **bits), partial(DoReFaLinear, **bits),
        partial(DoReFaConv2d, **on_real), partial(DoReFaLinear, **on_real), weight_bits, activation_bits,
        alpha=7.0, options=bits, variant=dorefa,
        weight_quantizer=lambda weight, layer: dorefa_weight(weight, layer.weight_bits),
    )  # fmt: skip


DOREFA = register(dorefa())
for _layer in (DoReFaConv2d, DoReFaLinear):
    register_precision(_layer, weights=lambda layer: layer.weight_bits, inputs=lambda layer: layer.activation_bits)
