"""XnorNet (Rastegari et al. 2016, "XNOR-Net"): signs with signs, scaled by each filter's mean magnitude."""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from ....pruners.errors import ConflictError
from .. import (
    input_scale,
    scaled_sign,
    scaled_sign_diagonal,
    scaled_sign_enlarged,
    sign_clipped,
)
from .bwn import BwnConv2d, BwnLinear
from .registry import (
    Kind,
    centre_and_clip_latent,
    change_kept,
    register,
    require,
    require_number,
)


class XnorConv2d(nn.Conv2d):
    """A convolution of signs with signs, scaled by each filter's mean magnitude."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(sign_clipped(x), scaled_sign(self.weight), self.bias)


class XnorLinear(nn.Linear):
    """A linear layer of signs with signs, scaled by each row's mean magnitude."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(sign_clipped(x), scaled_sign(self.weight), self.bias)


class InputScaledXnorConv2d(nn.Conv2d):
    """``XnorConv2d`` whose outputs are scaled by the mean magnitude of the inputs under the kernel (K), too."""

    def forward(self, x: Tensor) -> Tensor:
        y = self._conv_forward(sign_clipped(x), scaled_sign(self.weight), None)
        y = y * input_scale(x, self.kernel_size, self.stride, self.padding)
        return y if self.bias is None else y + self.bias.view(-1, 1, 1)


class InputScaledXnorLinear(nn.Linear):
    """``XnorLinear`` whose outputs are scaled by the mean magnitude of the inputs, too."""

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(sign_clipped(x), scaled_sign(self.weight)) * x.abs().mean(dim=-1, keepdim=True)
        return y if self.bias is None else y + self.bias


class PaperXnorConv2d(nn.Conv2d):
    """``XnorConv2d`` trained with the weight gradient as the paper prints it."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(sign_clipped(x), scaled_sign_diagonal(self.weight), self.bias)


class PaperXnorLinear(nn.Linear):
    """``XnorLinear`` trained with the weight gradient as the paper prints it."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(sign_clipped(x), scaled_sign_diagonal(self.weight), self.bias)


class PortXnorConv2d(nn.Conv2d):
    """``XnorConv2d`` trained with the enlarged weight gradient of the public port."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(sign_clipped(x), scaled_sign_enlarged(self.weight), self.bias)


class PortXnorLinear(nn.Linear):
    """``XnorLinear`` trained with the enlarged weight gradient of the public port."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(sign_clipped(x), scaled_sign_enlarged(self.weight), self.bias)


_BY_GRADIENT = {
    "corrected": (XnorConv2d, XnorLinear),
    "paper": (PaperXnorConv2d, PaperXnorLinear),
    "port": (PortXnorConv2d, PortXnorLinear),
}


def keep(model: nn.Module, min_gain: float) -> None:
    """``centre_and_clip_latent``, and no gain of a batch norm below ``min_gain`` (0: as they are): a sign behind a
    negative gain would turn over, behind none it would not depend on the input."""
    centre_and_clip_latent(model)
    for norm in model.modules() if min_gain else ():
        if isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d)) and norm.affine:
            change_kept(norm, lambda gains: gains.clamp(min=min_gain))


def xnornet(scale_activations: bool = False, gradient: str = "corrected", min_gain: float = 0.01) -> Kind:
    """``scale_activations``: with K, the scale of the inputs (it takes long and gains less than 1 %).
    ``gradient`` of the weights: "corrected", "paper" (diagonal only) or "port" (with its two factors). ``min_gain``:
    below which no gain of a batch norm gets."""
    require("XnorNet", "gradient", gradient, tuple(_BY_GRADIENT))
    require("XnorNet", "scale_activations", scale_activations, (False, True))
    require_number("XnorNet", "min_gain", min_gain, 0, least=True)
    conv, linear = _BY_GRADIENT[gradient]
    if scale_activations and gradient != "corrected":
        raise ConflictError("XnorNet: scale_activations=True goes with the corrected gradient only; leave gradient out")
    if scale_activations:
        conv, linear = InputScaledXnorConv2d, InputScaledXnorLinear
    return Kind(
        "XnorNet", conv, linear, BwnConv2d, BwnLinear, 1, 1,
        after_step=partial(keep, min_gain=min_gain), alpha=5.0,
        weight_quantizer=lambda weight, layer: scaled_sign(weight), scales_per_filter=True,
        options={"scale_activations": False, "gradient": "corrected", "min_gain": 0.01}, variant=xnornet,
    )  # fmt: skip


XNORNET = register(xnornet())
