"""IRNet (Qin et al. 2020, "Forward and Backward Information Retention for Accurate Binary Neural Networks")."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....pruners.errors import ConflictError, UnsuitedError
from .. import IRBatchNorm2d, checkerboard_padded, libra_sign, sign_clipped, sign_ede, sign_identity
from .registry import Kind, Layer, register, require, require_number
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


class CheckerIRConv2d(nn.Conv2d):
    """An ``IRConv2d`` whose border holds +1 and -1 in turns, as zeros are no binary values."""

    k = 10.0
    t = 0.1

    def forward(self, x: Tensor) -> Tensor:
        x = checkerboard_padded(sign_ede(x, self.k, self.t), int(self.padding[0]), int(self.padding[1]))
        weight = libra_sign(self.weight, self.k, self.t)
        return F.conv2d(x, weight, self.bias, self.stride, 0, self.dilation, self.groups)


class FinalIRConv2d(nn.Conv2d):
    """Plain signs with plain signs: what is left of ``IRConv2d`` for a last fine-tuning and for export."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(sign_clipped(x), sign_identity(self.weight), self.bias)


class CheckerFinalIRConv2d(nn.Conv2d):
    """A ``FinalIRConv2d`` whose border holds +1 and -1 in turns."""

    def forward(self, x: Tensor) -> Tensor:
        x = checkerboard_padded(sign_clipped(x), int(self.padding[0]), int(self.padding[1]))
        return F.conv2d(x, sign_identity(self.weight), self.bias, self.stride, 0, self.dilation, self.groups)


class FinalIRLinear(nn.Linear):
    """Plain signs with plain signs, in a linear layer."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(sign_clipped(x), sign_identity(self.weight), self.bias)


def balanced_or_plain(weight: Tensor, layer: Any) -> Tensor:
    """What a layer multiplies with: balanced, scaled signs, or in the final form plain ones."""
    return libra_sign(weight, layer.k, layer.t) if hasattr(layer, "k") else sign_identity(weight)


_CONVS: dict[tuple[bool, str], Layer] = {
    (False, "zeros"): IRConv2d, (False, "checkerboard"): CheckerIRConv2d, (True, "zeros"): FinalIRConv2d,
    (True, "checkerboard"): CheckerFinalIRConv2d,
}  # fmt: skip


def irnet(
    activation_bits: int = 1, t_min: float = 0.1, shifts: bool = False, norm: str = "batch", padding: str = "zeros",
    final: bool = False,
) -> Kind:  # fmt: skip
    """``activation_bits``: 1 (1w1a) or 32 (1w32a). ``t_min``: where the sharpness t of the gradients begins; 0.1 in the
    paper and for VGG-small, 0.001 in the authors' code for ResNet-20. ``shifts``: convolutions take two shifted views
    of their inputs. ``norm``: "batch", or "offset" for norms that only shift. ``padding``: "zeros", or "checkerboard"
    for +1 and -1 in turns. ``final``: plain signs without balance and scale, for a last fine-tuning and for export."""
    require("IRNet", "activation_bits", activation_bits, (1, 32))
    require("IRNet", "shifts", shifts, (False, True))
    require("IRNet", "norm", norm, ("batch", "offset"))
    require("IRNet", "padding", padding, ("zeros", "checkerboard"))
    require("IRNet", "final", final, (False, True))
    require_number("IRNet", "t_min", t_min, 0)
    binary = activation_bits == 1
    if not binary and (shifts or padding != "zeros" or final):
        what = "shifts are" if shifts else "padding=checkerboard is" if padding != "zeros" else "final is"
        raise UnsuitedError(f"IRNet: {what} for inputs whose signs are taken, not for real ones (activation_bits=32)")
    if shifts and (padding != "zeros" or final):
        raise ConflictError("IRNet: shifts=True goes with padding=zeros and final=False alone")
    conv: Layer = _CONVS[final, padding] if not shifts else ShiftIRConv2d
    linear = FinalIRLinear if final else IRLinear
    return Kind(
        "IRNet", conv if binary else IRWeightConv2d, linear if binary else IRWeightLinear,
        IRWeightConv2d, IRWeightLinear, 1, activation_bits,
        activation=nn.Identity if binary else nn.ReLU,
        at_epoch=partial(sharpen, low=t_min), norm=IRBatchNorm2d if norm == "offset" else None,
        options={"activation_bits": 1, "t_min": 0.1, "shifts": False, "norm": "batch", "padding": "zeros",
                 "final": False},
        usual={"resnet20_binary": {"t_min": 1e-3}}, variant=irnet,
        weight_quantizer=balanced_or_plain, scales_per_filter=not final,
    )  # fmt: skip


IRNET = register(irnet())
