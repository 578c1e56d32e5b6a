"""IENet, the information-enhanced network: learned scales, two shifted views of the inputs, a tent as the gradient."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import sign_iee, standardised_sign
from .registry import Kind, register
from .schedules import sharpen, sharpness


def equalised(x: Tensor) -> Tensor:
    """Each image divided by its standard deviation. The sign doesn't see it, the gradient does."""
    axes = tuple(range(1, x.ndim))
    return x / (x.var(dim=axes, keepdim=True) + 1e-5).sqrt()


def start_scale(layer: Any) -> None:
    """The learned scale of a layer begins at the mean magnitude of each filter's weights."""
    layer.alpha.data.copy_(layer.weight.detach().abs().flatten(1).mean(1))


class IEConv2d(nn.Conv2d):
    """y = alpha (conv(sign(x + a)) + lambda conv(sign(x + b))) with balanced signs for weights (IE-BC).

    ``alpha``: one per filter, at first the mean magnitude of its weights. ``first_shift``, ``second_shift`` (a, b): one
    per input channel. ``second_share`` (lambda): one per filter. ``k`` and ``t`` shape the gradient of the weights,
    ``input_t`` that of the activations.
    """

    k = 100.0
    t = 0.01
    input_t = 1.0

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1, padding: int | tuple[int, int] = 0, bias: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, bias=bias)
        self.alpha = nn.Parameter(torch.ones(out_channels))
        self.first_shift = nn.Parameter(torch.zeros(in_channels))
        self.second_shift = nn.Parameter(torch.zeros(in_channels))
        self.second_share = nn.Parameter(0.001 * torch.rand(out_channels))
        start_scale(self)

    def forward(self, x: Tensor) -> Tensor:
        weight = standardised_sign(self.weight, self.k, self.t)
        first, second = x + self.first_shift.view(-1, 1, 1), x + self.second_shift.view(-1, 1, 1)
        if self.training:  # behind the shifts: both modes take the same signs
            first, second = equalised(first), equalised(second)
        first, second = sign_iee(first, 1.0, self.input_t), sign_iee(second, 1.0, self.input_t)
        y = self._conv_forward(first, weight, None)
        y = y + self.second_share.view(-1, 1, 1) * self._conv_forward(second, weight, None)
        y = y * self.alpha.view(-1, 1, 1)
        return y if self.bias is None else y + self.bias.view(-1, 1, 1)


class IELinear(nn.Linear):
    """The same for a linear layer: signs with balanced signs and a learned scale per output."""

    k = 100.0
    t = 0.01
    input_t = 1.0

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias)
        self.alpha = nn.Parameter(torch.ones(out_features))
        start_scale(self)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            x = equalised(x)
        x = sign_iee(x, 1.0, self.input_t)
        y = F.linear(x, standardised_sign(self.weight, self.k, self.t)) * self.alpha
        return y if self.bias is None else y + self.bias


class IEWeightConv2d(nn.Conv2d):
    """A convolution of real inputs with balanced signs and a learned scale per filter."""

    k = 100.0
    t = 0.01

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1, padding: int | tuple[int, int] = 0, bias: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, bias=bias)
        self.alpha = nn.Parameter(torch.ones(out_channels))
        start_scale(self)

    def forward(self, x: Tensor) -> Tensor:
        y = self._conv_forward(x, standardised_sign(self.weight, self.k, self.t), None) * self.alpha.view(-1, 1, 1)
        return y if self.bias is None else y + self.bias.view(-1, 1, 1)


class IEWeightLinear(nn.Linear):
    """A linear layer on real inputs with balanced signs and a learned scale per output."""

    k = 100.0
    t = 0.01

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias)
        self.alpha = nn.Parameter(torch.ones(out_features))
        start_scale(self)

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x, standardised_sign(self.weight, self.k, self.t)) * self.alpha
        return y if self.bias is None else y + self.bias


def scaled_balanced_sign(weight: Tensor, layer: Any) -> Tensor:
    """What a layer multiplies with: balanced signs times its learned scales."""
    return standardised_sign(weight, layer.k, layer.t) * layer.alpha.view(-1, *(1,) * (weight.ndim - 1))


def sharpen_tents(model: nn.Module, done: float) -> None:
    """t goes from 0.01 to 10 for the weights; for the activations it is never below 1."""
    sharpen(model, done, 0.01, 10.0)
    _, t = sharpness(done, 0.01, 10.0)
    layer: Any
    for layer in (m for m in model.modules() if hasattr(m, "input_t")):
        layer.input_t = max(t, 1.0)


def start_scales(model: nn.Module) -> None:
    """``start_scale`` for every layer of this kind."""
    for layer in model.modules():
        if isinstance(layer, (IEConv2d, IELinear, IEWeightConv2d, IEWeightLinear)):
            start_scale(layer)


IENET = register(
    Kind(
        "IENet", IEConv2d, IELinear, IEWeightConv2d, IEWeightLinear, 1, 1,
        start=start_scales, at_epoch=sharpen_tents,
        weight_quantizer=scaled_balanced_sign,
    )
)  # fmt: skip
