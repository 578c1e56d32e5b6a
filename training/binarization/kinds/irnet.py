"""IRNet (Qin et al. 2020, "Forward and Backward Information Retention for Accurate Binary Neural Networks")."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....pruners.errors import UsageError
from .. import IRBatchNorm2d, libra_sign, sign_clipped, sign_ede, sign_identity
from .registry import Kind, register, require, require_number
from .schedules import sharpen


class IRConv2d(nn.Conv2d):
    """A convolution of signs with balanced, scaled signs. ``k`` and ``t`` shape the gradient."""

    k = 10.0
    t = 0.1

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(sign_ede(x, self.k, self.t), libra_sign(self.weight, self.k, self.t), self.bias)


class IRLinear(nn.Linear):
    """A linear layer of signs with balanced, scaled signs. ``k`` and ``t`` shape the gradient."""

    k = 10.0
    t = 0.1

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(sign_ede(x, self.k, self.t), libra_sign(self.weight, self.k, self.t), self.bias)


class IRWeightConv2d(nn.Conv2d):
    """A convolution of real inputs with balanced, scaled signs (1w32a)."""

    k = 10.0
    t = 0.1

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, libra_sign(self.weight, self.k, self.t), self.bias)


class IRWeightLinear(nn.Linear):
    """A linear layer on real inputs with balanced, scaled signs (1w32a)."""

    k = 10.0
    t = 0.1

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, libra_sign(self.weight, self.k, self.t), self.bias)


class ShiftIRConv2d(nn.Conv2d):
    """Two ``IRConv2d`` with the same weights, whose inputs are shifted by two learned numbers per channel."""

    k = 10.0
    t = 0.1

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, padding: int = 0,
        bias: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, bias=bias)
        self.first_shift = nn.Parameter(torch.zeros(1, in_channels, 1, 1))
        self.second_shift = nn.Parameter(torch.zeros(1, in_channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        weight = libra_sign(self.weight, self.k, self.t)
        first = self._conv_forward(sign_ede(x + self.first_shift, self.k, self.t), weight, self.bias)
        second = self._conv_forward(sign_ede(x + self.second_shift, self.k, self.t), weight, self.bias)
        return first + second


class FinalIRConv2d(nn.Conv2d):
    """Plain signs with plain signs: what is left of ``IRConv2d`` for a last fine-tuning and for export."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(sign_clipped(x), sign_identity(self.weight), self.bias)


def irnet(activation_bits: int = 1, t_min: float = 0.1, shifts: bool = False, norm: str = "batch") -> Kind:
    """``activation_bits``: 1 (1w1a) or 32 (1w32a). ``t_min``: where the sharpness t of the gradients begins; 0.1 in the
    paper and for VGG-small, 0.001 in the authors' code for ResNet-20. ``shifts``: convolutions take two shifted views
    of their inputs. ``norm``: "batch", or "offset" for norms that only shift."""
    require("IRNet", "activation_bits", activation_bits, (1, 32))
    require("IRNet", "shifts", shifts, (False, True))
    require("IRNet", "norm", norm, ("batch", "offset"))
    require_number("IRNet", "t_min", t_min, 0)
    binary = activation_bits == 1
    if shifts and not binary:
        raise UsageError("IRNet: shifts are of inputs whose signs are taken, not of real ones (activation_bits=32)")
    conv = ShiftIRConv2d if shifts else IRConv2d if binary else IRWeightConv2d
    return Kind(
        "IRNet", conv, IRLinear if binary else IRWeightLinear,
        IRWeightConv2d, IRWeightLinear, 1, activation_bits,
        activation=nn.Identity if binary else nn.ReLU,
        at_epoch=partial(sharpen, low=t_min), norm=IRBatchNorm2d if norm == "offset" else None,
        options={"activation_bits": 1, "t_min": 0.1, "shifts": False, "norm": "batch"},
        usual={"resnet20_binary": {"t_min": 1e-3}}, variant=irnet,
        weight_quantizer=lambda weight, layer: libra_sign(weight, layer.k, layer.t), scales_per_filter=True,
    )  # fmt: skip


IRNET = register(irnet())
