"""Layers whose weights are bits. A packed file carries this text: it imports torch alone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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

    def __init__(self, in_channels: int, out_channels: int, columns: int) -> None:
        super().__init__()
        self.columns = columns
        self.register_buffer("bits", torch.zeros(out_channels, (columns + 7) // 8, dtype=torch.uint8))
        self.register_buffer("scale", torch.ones(self.views, out_channels, dtype=torch.float64))
        self.register_buffer("offset", torch.zeros(out_channels, dtype=torch.float64))
        if self.views > 1:
            self.register_buffer("shifts", torch.zeros(self.views, in_channels))

    def forward(self, x: Tensor) -> Tensor:
        if self.inputs == "numbers":
            return self.product(x, self.weight(x.dtype) * self.over_rows(self.scale[0].to(x.dtype)), self.offset.to(x))
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
        return self.sums(x) * self.over_outputs(self.scale[number].to(x.dtype))

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
        super().__init__(in_channels, out_channels, in_channels // groups * height * width)
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
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
        super().__init__(in_features, out_features, in_features)
        self.in_features, self.out_features = in_features, out_features

    def weight(self, dtype: torch.dtype) -> Tensor:
        return signs_in(self.bits, self.columns, dtype)

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
