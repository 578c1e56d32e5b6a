"""Quantizers to several levels: k bits, k = 1 .. 32, and fixed point."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from .quantizers import quantizer, sign_identity


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


@quantizer("levels", precision=None)
def quantize(x: Tensor, bits: int) -> Tensor:
    """The nearest of 2^bits levels 0, 1/(2^bits - 1), ..., 1 for x in [0, 1].

    Forward: round((2^k - 1) x) / (2^k - 1). Gradient: g.
    Reference: Zhou et al. 2016, "DoReFa-Net", eq. 5 and 6.
    """
    steps = 2**bits - 1
    return _Round.apply(x * steps) / steps


@quantizer("dorefa_weight", precision=None)
def dorefa_weight(weight: Tensor, bits: int) -> Tensor:
    """Weights of k bits.

    Forward: k = 1: sign(W) E|W|, the mean over the whole layer (a constant for the gradient);
    k < 32: 2 quantize_k( tanh W / (2 max |tanh W|) + 1/2 ) - 1; k = 32: W. Gradient: g past sign and rounding.
    Reference: Zhou et al. 2016, "DoReFa-Net", eq. 7 to 9.
    """
    if bits == 32:
        return weight
    if bits == 1:
        return sign_identity(weight) * weight.abs().mean().detach()
    squashed = torch.tanh(weight)
    return 2 * quantize(squashed / (2 * squashed.abs().amax()) + 0.5, bits) - 1


@quantizer("dorefa_activation", precision=None)
def dorefa_activation(x: Tensor, bits: int) -> Tensor:
    """Activations of k bits.

    Forward: quantize_k(clip(x, 0, 1)); k = 32: x. Gradient: g * 1{0 <= x <= 1}.
    Reference: Zhou et al. 2016, "DoReFa-Net", eq. 11.
    """
    return x if bits == 32 else quantize(x.clamp(0, 1), bits)


class _GradientOfFewBits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bits: int) -> Tensor:
        ctx.bits = bits
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        steps = 2**ctx.bits - 1
        largest = grad.abs().amax(dim=tuple(range(1, grad.ndim)), keepdim=True)
        largest = largest.clamp(min=torch.finfo(grad.dtype).tiny)  # where all is zero, zero comes out
        noise = (torch.rand_like(grad) - 0.5) / steps
        levels = ((grad / (2 * largest) + 0.5 + noise).clamp(0, 1) * steps).round() / steps
        return 2 * largest * (levels - 0.5), None


@quantizer("dorefa_gradient", precision=32)
def dorefa_gradient(x: Tensor, bits: int) -> Tensor:
    """Passes x on; the gradient comes back in k bits, with noise instead of a bias.

    Forward: x. Gradient: 2 m ( quantize_k(clip(g / (2 m) + 1/2 + N, 0, 1)) - 1/2 ), m = max |g| of each image,
    N uniform in (-1/2, 1/2) / (2^k - 1); k = 32: g. Reference: Zhou et al. 2016, "DoReFa-Net", eq. 12.
    """
    return x if bits == 32 else _GradientOfFewBits.apply(x, bits)


@quantizer("uniform", precision=None)
def uniform(x: Tensor, bits: int) -> Tensor:
    """The k-bit quantizer of XNOR-Net for x in [-1, 1].

    Forward: 2 ( round((2^k - 1) (x + 1) / 2) / (2^k - 1) - 1/2 ). Gradient: g.
    Reference: Rastegari et al. 2016, "XNOR-Net", section 3.3, "k-bit quantization".
    """
    return 2 * quantize((x + 1) / 2, bits) - 1


@quantizer("fixed_point", precision=None)
def fixed_point(x: Tensor, bits: int, exponent: int) -> Tensor:
    """Two's complement with ``bits`` bits, of which the lowest is worth 2^exponent.

    Forward: 2^v clip(round(x 2^-v), -2^(n-1), 2^(n-1) - 1). Gradient: g inside the range, 0 outside.
    Reference: any text on digital signal processing.
    """
    top = 2 ** (bits - 1)
    step = 2.0**exponent
    return _Round.apply(x / step).clamp(-top, top - 1) * step


def sqnr(x: Tensor, quantized: Tensor) -> float:
    """Signal to quantization noise in dB: 10 log10( sum x^2 / sum (x - quantized)^2 ); infinite where they agree."""
    return sqnr_of([(x, quantized)])


@torch.no_grad()
def sqnr_of(pairs: Iterable[tuple[Tensor, Tensor]]) -> float:
    """``sqnr`` over all of these, each before and after quantization."""
    signal, noise = 0.0, 0.0
    for x, quantized in pairs:
        x, quantized = x.double(), quantized.double()
        signal += float(x.square().sum())
        noise += float((x - quantized).square().sum())
    return float("inf") if noise == 0 else 10 * math.log10(signal / noise)


def best_exponent(x: Tensor, bits: int) -> int:
    """The exponent with which ``fixed_point`` has the highest SQNR; the smallest such one, and 0 where all is zero."""
    return best_exponents(x.reshape(1, -1), bits)[0]


@torch.no_grad()
def best_exponents(rows: Tensor, bits: int) -> list[int]:
    """``best_exponent`` of each row of a matrix."""
    largest = rows.abs().amax(1).double()
    least = largest.frexp().exponent.long() - 1  # of the power of two below the largest
    offsets = range(-bits - 4, 3)  # with smaller ones, more is clipped than half a step is worth
    noise = torch.stack([_noise(rows, bits, [e + offset for e in least.tolist()]) for offset in offsets])
    best = least + torch.tensor(offsets)[noise.argmin(0).cpu()].to(least.device)  # argmin takes the first of equals
    return torch.where(largest == 0, 0, best).tolist()


_AT_ONCE = 2**22
"""Numbers looked at together: large layers are taken in pieces, as float64 takes eight bytes a number."""


def _noise(rows: Tensor, bits: int, exponents: list[int]) -> Tensor:
    """The sum of (x - quantized)^2 over each row, in float64, where no step is too small to be a number."""
    top, total = 2 ** (bits - 1), rows.new_zeros(len(rows), dtype=torch.float64)
    step = torch.tensor([2.0**e for e in exponents], dtype=torch.float64, device=rows.device).unsqueeze(1)
    for piece in rows.split(max(1, _AT_ONCE // len(rows)), dim=1):
        x = piece.double()
        total += (x - (x / step).round_().clamp_(-top, top - 1).mul_(step)).square_().sum(1)
    return total
