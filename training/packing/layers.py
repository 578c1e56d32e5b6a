"""Layers whose weights are bits. A packed file carries this text."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .kernels import ACCELERATED, MOST_COLUMNS, filled, panels_of, sums_of_signs

ABOVE_HALF = 0.5 + 2.0**-24
"""The float32 after 1/2."""


def both_axes(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def signs_in(bits: Tensor, columns: int, dtype: torch.dtype) -> Tensor:
    """(rows, columns) of +1 and -1: bit b of byte j says column 8 j + b; 1 is +1."""
    places = torch.arange(8, device=bits.device, dtype=torch.uint8)
    ones = bits.unsqueeze(-1).bitwise_right_shift(places).bitwise_and(1)
    return ones.flatten(1)[:, :columns].to(dtype).mul_(2).sub_(1)


class PackedLayer(nn.Module):
    """y = offset + the sum over the views of scale * (signs of the weights with signs of the inputs); for inference.

    ``bits``: the signs of each output's weights, eight to a byte. ``scale``, ``offset``: one number for each output, in
    float64, so that the scales, biases and batch norms that they were made of are in them exactly. ``shifts``: what is
    added to the inputs before their signs are taken, where a layer looks at them in several views.

    ``inputs`` says what is done with the inputs: "signs" (+1 from 0 on, else -1), "bits" (1 above 1/2, else 0), or
    "numbers": they are taken as they are, and the layer computes in floats with weights that are made from the bits.
    ``padding_value``: what stands around the signs of an image: 0, 1 or -1. ``scaled_by_inputs``: the sums are
    multiplied by the mean magnitude of the inputs that they were made of.
    """

    inputs = "signs"
    views = 1
    padding_value = 0
    scaled_by_inputs = False
    bits: Tensor
    scale: Tensor
    offset: Tensor
    shifts: Tensor
    panels: Any
    taps: Tensor
    scale_and_offset: Tensor

    def __init__(self, in_channels: int, out_channels: int, groups: int = 1, places: int = 1) -> None:
        """``places``: how many the kernel has."""
        super().__init__()
        columns = self.columns = in_channels // groups * places
        self.groups, self.places = groups, places
        least = min(in_channels, out_channels) // groups
        self.fits = ACCELERATED and self.inputs != "numbers" and columns <= MOST_COLUMNS and least >= 8
        self.register_buffer("bits", torch.zeros(out_channels, (columns + 7) // 8, dtype=torch.uint8))
        self.register_buffer("scale", torch.ones(self.views, out_channels, dtype=torch.float64))
        self.register_buffer("offset", torch.zeros(out_channels, dtype=torch.float64))
        if self.views > 1:
            self.register_buffer("shifts", torch.zeros(self.views, in_channels))
        for name in ("panels", "taps", "scale_and_offset"):  # what kernels read, made from the others
            self.register_buffer(name, None, persistent=False)
        self.made_from: Any = None

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.made_from = None
        self.is_accelerated(torch.float32)

    def is_accelerated(self, dtype: torch.dtype) -> bool:
        """Whether kernels compute the sums; what they read is made anew where the bits have changed."""
        if not self.fits or dtype != torch.float32:
            return False
        if torch.compiler.is_compiling():
            return self.panels is not None
        bits, scale, offset = self.bits, self.scale, self.offset
        if not bits.is_cpu or bits.is_inference():
            return False
        made, now = self.made_from, (bits._version, scale._version, offset._version)
        same = made is not None and made[0] is bits and made[1] is scale and made[2] is offset and made[3] == now
        if not same:
            self.panels, self.taps = panels_of(bits, self.groups, self.places, self.columns // self.places)
            self.scale_and_offset = filled(torch.stack([*scale, offset, 0 * offset]), self.groups)
            self.made_from = (bits, scale, offset, now, self.scale_and_offset.unbind())
        return True

    def forward(self, x: Tensor) -> Tensor:
        if self.inputs == "numbers":
            return self.product(x, self.weight(x.dtype) * self.over_rows(self.scale[0].to(x.dtype)), self.offset.to(x))
        if self.views == 1 and not self.scaled_by_inputs and self.is_accelerated(x.dtype) and x.numel():
            return self.accelerated(x, 0, 1)
        y = self.view(x, 0)
        for number in range(1, self.views):
            y = y + self.view(x, number)
        if self.scaled_by_inputs:
            y = y * self.magnitude(x)
        return y + self.over_outputs(self.offset.to(x.dtype))

    def view(self, x: Tensor, number: int) -> Tensor:
        """The scaled sums of one view of the inputs."""
        if self.views > 1:
            x = x + self.over_outputs(self.shifts[number])
        if self.is_accelerated(x.dtype) and x.numel():
            return self.accelerated(x, number, -1)
        return self.sums(x) * self.over_outputs(self.scale[number].to(x.dtype))

    def convolved(self, x: Tensor, scale: int, offset: int, geometry: list[int]) -> Tensor:
        """The scaled sums of images, by the kernel. ``scale``, ``offset``: rows of ``scale_and_offset``."""
        indirect = type(x) is not Tensor or x.requires_grad or torch.compiler.is_compiling() or torch.jit.is_tracing()
        # called directly a small layer takes a fifth less time than through the dispatcher
        rows = self.scale_and_offset if indirect else self.made_from[-1]
        compute = torch.ops.packed_signs.convolve_v1 if indirect else sums_of_signs
        threshold = ABOVE_HALF if self.inputs == "bits" else 0.0
        outputs = self.bits.shape[0]
        return compute(x, self.panels, self.taps, rows[scale], rows[offset], outputs, geometry, threshold)

    def accelerated(self, x: Tensor, scale: int, offset: int) -> Tensor:
        """``sums`` with scale and offset, two rows of ``scale_and_offset``, by kernels."""
        raise NotImplementedError

    def sums(self, x: Tensor) -> Tensor:
        """Sums of signs, which are whole numbers, computed in floats that hold them exactly."""
        exact = x.dtype
        if x.is_cuda and exact != torch.float64:  # sums in 16 bits are exact up to 2048
            exact = torch.float16 if self.columns <= 2048 else torch.float32
        elif exact in (torch.float16, torch.bfloat16):
            exact = torch.float32
        below = x <= 0.5 if self.inputs == "bits" else x < 0
        signs = 1 - 2 * below.to(exact)
        return self.product(signs, self.weight(exact), None).round().to(x.dtype)

    def weight(self, dtype: torch.dtype) -> Tensor:
        """The signs of the weights, as torch's own layer holds them."""
        raise NotImplementedError

    def product(self, x: Tensor, weight: Tensor, offset: Tensor | None) -> Tensor:
        """What torch computes of these inputs and weights."""
        raise NotImplementedError

    def magnitude(self, x: Tensor) -> Tensor:
        """The mean magnitude of the inputs of each sum."""
        raise NotImplementedError

    def over_outputs(self, numbers: Tensor) -> Tensor:
        """One number for each channel, in a shape that fits inputs and outputs."""
        raise NotImplementedError

    def over_rows(self, numbers: Tensor) -> Tensor:
        """One number for each output, in a shape that fits the weights."""
        raise NotImplementedError


class PackedConv2d(PackedLayer):
    """A convolution whose weights are bits: of each output first all channels of the kernel's first place."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1, padding: int | str | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1, groups: int = 1, bias: bool = True, padding_mode: str = "zeros",
    ) -> None:  # fmt: skip
        height, width = self.kernel_size = both_axes(kernel_size)
        super().__init__(in_channels, out_channels, groups, height * width)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.stride, self.dilation, self.padding_mode = both_axes(stride), both_axes(dilation), padding_mode
        same = (self.dilation[0] * (height - 1) // 2, self.dilation[1] * (width - 1) // 2)
        self.padding = both_axes(padding) if not isinstance(padding, str) else same if padding == "same" else (0, 0)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 3:
            return self.forward(x.unsqueeze(0)).squeeze(0)
        return super().forward(x)

    def weight(self, dtype: torch.dtype) -> Tensor:
        rows = signs_in(self.bits, self.columns, dtype)
        return rows.view(self.out_channels, *self.kernel_size, -1).permute(0, 3, 1, 2).contiguous()

    def accelerated(self, x: Tensor, scale: int, offset: int) -> Tensor:
        (up, left), padding = self.padding, self.padding
        if self.padding_mode != "zeros":
            x, padding = F.pad(x, (left, left, up, up), self.padding_mode), (0, 0)
        value = -1 if self.inputs == "bits" else self.padding_value
        geometry = [*self.kernel_size, *self.stride, *padding, *self.dilation, value]
        return self.convolved(x, scale, offset, geometry)

    def product(self, x: Tensor, weight: Tensor, offset: Tensor | None) -> Tensor:
        (up, left), padding = self.padding, self.padding
        if self.padding_mode != "zeros":
            x, padding = F.pad(x, (left, left, up, up), self.padding_mode), (0, 0)
        elif self.padding_value and self.inputs != "numbers":
            x, padding = F.pad(x, (left, left, up, up), value=self.padding_value), (0, 0)
        return F.conv2d(x, weight, offset, self.stride, padding, self.dilation, self.groups)

    def magnitude(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x.abs().mean(dim=1, keepdim=True), self.kernel_size, self.stride, self.padding)

    def over_outputs(self, numbers: Tensor) -> Tensor:
        return numbers.view(-1, 1, 1)

    def over_rows(self, numbers: Tensor) -> Tensor:
        return numbers.view(-1, 1, 1, 1)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"


class PackedLinear(PackedLayer):
    """A linear layer whose weights are bits."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__(in_features, out_features)
        self.in_features, self.out_features = in_features, out_features

    def weight(self, dtype: torch.dtype) -> Tensor:
        return signs_in(self.bits, self.columns, dtype)

    def accelerated(self, x: Tensor, scale: int, offset: int) -> Tensor:
        rows = x.reshape(1, 1, -1, self.in_features).permute(0, 3, 1, 2)  # an image with a pixel for each row
        y = self.convolved(rows, scale, offset, [1, 1, 1, 1, 0, 0, 1, 1, -1])
        return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], self.out_features)

    def product(self, x: Tensor, weight: Tensor, offset: Tensor | None) -> Tensor:
        return F.linear(x, weight, offset)

    def magnitude(self, x: Tensor) -> Tensor:
        return x.abs().mean(dim=-1, keepdim=True)

    def over_outputs(self, numbers: Tensor) -> Tensor:
        return numbers

    def over_rows(self, numbers: Tensor) -> Tensor:
        return numbers.view(-1, 1)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}"
