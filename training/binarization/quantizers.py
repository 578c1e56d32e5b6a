"""Quantizers: pure functions from real tensors to few values, each with the gradient that training gives it.

A quantizer's derivative is zero almost everywhere, so each has a backward formula of its own; below, ``g`` is the
gradient that arrives at its output, and 1{...} is 1 where the condition holds, else 0. Everywhere sign(0) = +1.

A new one is a function with ``@quantizer("name", precision=bits)`` above it, in this file or in any that is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...pruners.registry import Registry

QUANTIZERS: Registry[Callable[..., Tensor]] = Registry("quantizer")
quantizer = QUANTIZERS.register
"""``precision``: bits of one output value, scales aside; None where the argument ``bits`` says it."""


# -- signs


def sign(x: Tensor) -> Tensor:
    """+1 where x >= 0, else -1; no gradient. (torch's own sign(0) is 0; this form is much faster than a ``where``.)"""
    return x.sign().add_(0.5).sign_()


class _ClippedSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return sign(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        bound = 1 + torch.finfo(x.dtype).eps  # the bounds themselves are outside, and |x| = 1 belongs inside
        return torch.ops.aten.hardtanh_backward(grad, x, -bound, bound)


@quantizer("sign", precision=1)
def sign_clipped(x: Tensor) -> Tensor:
    """The sign with the gradient of hardtanh.

    Forward: sign(x). Gradient: g * 1{|x| <= 1}. Reference: Hubara et al. 2016, "Binarized Neural Networks", eq. 4.
    """
    return _ClippedSign.apply(x)


class _IdentitySign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return sign(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


@quantizer("sign_identity", precision=1)
def sign_identity(x: Tensor) -> Tensor:
    """The sign with the straight-through estimator.

    Forward: sign(x). Gradient: g. Reference: Courbariaux et al. 2015, "BinaryConnect", algorithm 1.
    """
    return _IdentitySign.apply(x)


class _StochasticSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return sign((x + 1) / 2 - torch.rand_like(x))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


@quantizer("sign_stochastic", precision=1)
def sign_stochastic(x: Tensor) -> Tensor:
    """A random sign; one draw serves forward and backward.

    Forward: +1 with probability clip((x + 1) / 2, 0, 1), else -1. Gradient: g.
    Reference: Courbariaux et al. 2015, "BinaryConnect", eq. 2 and 3.
    """
    return _StochasticSign.apply(x)


class _EDESign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, k: float, t: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.k, ctx.t = k, t
        return sign(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        slope = ctx.k * ctx.t * (1 - torch.tanh(ctx.t * x).square())
        return grad * slope, None, None


@quantizer("ede", precision=1)
def sign_ede(x: Tensor, k: float, t: float) -> Tensor:
    """The sign with the error decay estimator, which goes from the identity to the sign as t grows.

    Forward: sign(x). Gradient: g * k * t * (1 - tanh(t x)^2), the derivative of k * tanh(t x).
    Reference: Qin et al. 2020, "Forward and Backward Information Retention" (IR-Net), eq. 11 and 12.
    """
    return _EDESign.apply(x, k, t)


class _IEESign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, k: float, t: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.k, ctx.t = k, t
        return sign(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        slope = (3**0.5 * ctx.t - 1.5 * ctx.t**2 * x.abs()).clamp_(min=0)
        return grad * (ctx.k * slope), None, None


@quantizer("iee", precision=1)
def sign_iee(x: Tensor, k: float, t: float) -> Tensor:
    """The sign with the information-enhanced estimator, a tent whose support shrinks as t grows.

    Forward: sign(x). Gradient: g * k * max(0, sqrt(3) t - 1.5 t^2 |x|), which is 0 from |x| = 2 / (sqrt(3) t) on.
    Reference: IE-Net (information-enhanced network), the estimator of its published code.
    """
    return _IEESign.apply(x, k, t)


# -- scaled signs of weights: one scale for each filter, which is the first axis


def mean_magnitude(weight: Tensor) -> Tensor:
    """alpha = ||W||_1 / n of each filter W of n elements, in a shape that multiplies the weight."""
    return weight.abs().mean(dim=tuple(range(1, weight.ndim)), keepdim=True)


@quantizer("xnor", precision=1)
def scaled_sign(weight: Tensor) -> Tensor:
    """The sign of each filter, scaled by its mean magnitude; the gradient knows that all weights make the scale.

    Forward: alpha * sign(W), alpha = ||W||_1 / n.
    Gradient: (1/n) sign(W_i) sum_j [g_j sign(W_j)] + g_i alpha 1{|W_i| <= 1}, j over the filter: the product rule.
    Reference: Rastegari et al. 2016, "XNOR-Net", eq. 6; the gradient is the corrected one.
    """
    return mean_magnitude(weight) * sign_clipped(weight)


class _DiagonalScaledSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return mean_magnitude(weight) * sign(weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (weight,) = ctx.saved_tensors
        inside = (weight.abs() <= 1).to(weight.dtype)
        return grad * (1 / weight[0].numel() + mean_magnitude(weight) * inside)


@quantizer("xnor_paper", precision=1)
def scaled_sign_diagonal(weight: Tensor) -> Tensor:
    """``scaled_sign`` with the gradient as the paper prints it, which forgets that a weight moves all others' scale.

    Forward: alpha * sign(W), alpha = ||W||_1 / n. Gradient: g_i (1/n + alpha 1{|W_i| <= 1}).
    Reference: Rastegari et al. 2016, "XNOR-Net", section 3.1, "Training Binary-Weights-Networks".
    """
    return _DiagonalScaledSign.apply(weight)


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.factor, None


@quantizer("xnor_port", precision=1)
def scaled_sign_enlarged(weight: Tensor) -> Tensor:
    """``scaled_sign`` with the two factors that the public PyTorch port puts on its gradient.

    Forward: alpha * sign(W). Gradient: the corrected one times n (1 - 1/s), s input channels: n undoes the small
    scale, the rest is the diagonal of centring over the input channels. Adam is nearly blind to both.
    Reference: the port's ``updateBinaryGradWeight``.
    """
    factor = weight[0].numel() * (1 - 1 / weight.shape[1])
    return scaled_sign(_ScaleGradient.apply(weight, factor))


def input_scale(x: Tensor, kernel_size: Any, stride: Any, padding: Any) -> Tensor:
    """K (N, 1, H', W'): the mean magnitude of what each position of the kernel covers, zeros of the padding included.

    Reference: Rastegari et al. 2016, "XNOR-Net", section 3.2: A = mean over channels of |I|, K = A * (1 / (w h)).
    """
    return torch.nn.functional.avg_pool2d(x.abs().mean(dim=1, keepdim=True), kernel_size, stride, padding)


# -- standardised weights


def standardised(weight: Tensor, eps: float = 0.0) -> Tensor:
    """(W - mean) / std of each filter, with the unbiased variance (plus ``eps``); the gradient flows through both."""
    axes = tuple(range(1, weight.ndim))
    centred = weight - weight.mean(dim=axes, keepdim=True)
    return centred / (centred.var(dim=axes, keepdim=True) + eps).sqrt()


@quantizer("libra", precision=1)
def libra_sign(weight: Tensor, k: float, t: float) -> Tensor:
    """Balanced signs with a scale that is a shift of bits (Libra parameter binarization).

    Forward: 2^s sign(W^), W^ = (W - mean) / std, s = round(log2(mean |W^|)), of each filter.
    Gradient: that of ``sign_ede`` at W^, times 2^s (a constant), through the standardisation.
    Reference: Qin et al. 2020, IR-Net, eq. 7 to 9.
    """
    balanced = standardised(weight)
    shift = mean_magnitude(balanced.detach()).log2().round().exp2()
    return sign_ede(balanced, k, t) * shift


@quantizer("ie_weight", precision=1)
def standardised_sign(weight: Tensor, k: float, t: float) -> Tensor:
    """Balanced signs, not scaled: IE-Net learns its scale.

    Forward: sign(W^), W^ = (W - mean) / sqrt(var + 1e-5). Gradient: that of ``sign_iee`` through W^.
    Reference: IE-Net, its published code.
    """
    return sign_iee(standardised(weight, 1e-5), k, t)
