"""Quantizers: their values, and every gradient formula against an independent one, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from secateur.pruners.errors import UsageError
from secateur.training.binarization import levels as k_bits
from secateur.training.binarization import quantizers as q

W = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
G = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def gradient(function: Callable[[Tensor], Tensor], x: Tensor, g: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(function(x), x, g)
    return found


def differences(function: Callable[[Tensor], Tensor], x: Tensor, g: Tensor, h: float = 1e-6) -> Tensor:
    """sum_j g_j df_j/dx_i by central differences."""
    found = torch.zeros_like(x)
    for i in range(x.numel()):
        step = torch.zeros_like(x)
        step.view(-1)[i] = h
        found.view(-1)[i] = ((function(x + step) - function(x - step)) * g).sum() / (2 * h)
    return found


def close(a: Tensor, b: Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def test_an_unknown_quantizer_is_refused_with_the_closest_name() -> None:
    with pytest.raises(UsageError, match=r"unknown quantizer 'sing', did you mean 'sign'\?"):
        q.QUANTIZERS.find("sing")


def test_every_quantizer_has_a_precision_and_says_forward_gradient_and_reference() -> None:
    for name in q.QUANTIZERS.names():
        words = q.QUANTIZERS.find(name).__doc__ or ""
        assert "Forward" in words and "Gradient" in words, name
        assert "Reference" in words, name
        precision = q.QUANTIZERS.fact(name, "precision")
        assert precision is None or 1 <= precision <= 32


@pytest.mark.parametrize("name", ["sign", "sign_identity"])
def test_the_sign_of_zero_is_plus_one(name: str) -> None:
    x = torch.tensor([-2.0, -1e-38, -0.0, 0.0, 1e-38, 3.0])
    assert q.QUANTIZERS.find(name)(x).tolist() == [-1, -1, 1, 1, 1, 1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_clipped_sign_passes_gradients_up_to_one_and_not_beyond(dtype: torch.dtype) -> None:
    beyond = 1 + torch.finfo(dtype).eps
    x = torch.tensor([-2, -beyond, -1, -0.3, 0, 1, beyond, 9], dtype=dtype)
    assert gradient(q.sign_clipped, x, torch.full_like(x, 2)).tolist() == [0, 0, 2, 2, 2, 2, 0, 0]


def test_the_identity_sign_passes_every_gradient() -> None:
    close(gradient(q.sign_identity, 3 * W, G), G)


def test_the_stochastic_sign_draws_with_the_hard_sigmoid() -> None:
    torch.manual_seed(0)
    x = torch.tensor([-1.5, -0.5, 0.0, 0.5, 1.5]).repeat(20_000, 1)
    share = (q.sign_stochastic(x) + 1).mean(0) / 2
    torch.testing.assert_close(share, torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]), atol=0.02, rtol=0)
    close(gradient(q.sign_stochastic, W, G), G)


@pytest.mark.parametrize(("k", "t"), [(10.0, 0.1), (1.0, 3.0)])
def test_ede_has_the_gradient_of_its_scaled_tanh(k: float, t: float) -> None:
    close(gradient(lambda x: q.sign_ede(x, k, t), W, G), differences(lambda x: k * torch.tanh(t * x), W, G), 1e-7)


@pytest.mark.parametrize(("k", "t"), [(100.0, 0.01), (1.0, 1.0), (1.0, 10.0)])
def test_iee_is_a_tent_that_ends_where_it_says(k: float, t: float) -> None:
    end = 2 / (math.sqrt(3) * t)
    x = torch.tensor([0, 0.5 * end, end * 0.999, end * 1.001, -0.5 * end, -2 * end], dtype=torch.float64)
    peak = k * math.sqrt(3) * t
    expected = torch.tensor([1, 0.5, 0.001, 0, 0.5, 0], dtype=torch.float64) * peak
    close(gradient(lambda v: q.sign_iee(v, k, t), x, torch.ones_like(x)), expected)


# -- XNOR-Net: the corrected gradient


def corrected(weight: Tensor, g: Tensor) -> Tensor:
    """The formula of the seed, element by element."""
    result = torch.zeros_like(weight)
    for o in range(weight.shape[0]):
        w, d = weight[o].reshape(-1), g[o].reshape(-1)
        n, alpha = w.numel(), w.abs().sum() / w.numel()
        total = (d * w.sign()).sum()
        result[o] = (w.sign() * total / n + d * alpha * (w.abs() <= 1)).view_as(weight[o])
    return result


def test_the_xnor_gradient_is_the_corrected_formula() -> None:
    close(q.scaled_sign(W), W.abs().mean((1, 2, 3), keepdim=True) * W.sign())
    close(gradient(q.scaled_sign, W, G), corrected(W, G))


def test_the_xnor_gradient_is_autograd_of_the_scale_times_the_straight_through_sign() -> None:
    """The sign is replaced by the line whose slope the estimator assumes; all else is differentiated."""
    inside = (W.abs() <= 1).double()

    def surrogate(weight: Tensor) -> Tensor:
        return weight.abs().mean((1, 2, 3), keepdim=True) * (W.sign() + (weight - W) * inside)

    close(gradient(q.scaled_sign, W, G), differences(surrogate, W, G), 1e-7)
    weight = W.clone().requires_grad_()
    assert torch.autograd.gradcheck(surrogate, (weight,))


def test_the_papers_gradient_differs_from_the_corrected_one() -> None:
    """One filter of two weights, the gradient arrives at the first alone: the second moves the scale all the same."""
    weight = torch.tensor([[0.5, -0.25]], dtype=torch.float64)
    g = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    alpha = 0.375
    close(gradient(q.scaled_sign, weight, g), torch.tensor([[0.5 + alpha, -0.5]], dtype=torch.float64))
    close(gradient(q.scaled_sign_diagonal, weight, g), torch.tensor([[0.5 + alpha, 0.0]], dtype=torch.float64))


def test_the_ports_gradient_is_the_corrected_one_times_two_factors() -> None:
    close(gradient(q.scaled_sign_enlarged, W, G), corrected(W, G) * 16 * (1 - 1 / 4))
    close(q.scaled_sign_enlarged(W), q.scaled_sign(W))


def test_the_input_scale_is_the_mean_magnitude_under_the_kernel() -> None:
    x = torch.randn(2, 5, 6, 6, dtype=torch.float64)
    mean = x.abs().mean(1, keepdim=True)
    expected = torch.nn.functional.conv2d(mean, torch.full((1, 1, 3, 3), 1 / 9, dtype=torch.float64), padding=1)
    close(q.input_scale(x, 3, 1, 1), expected)


# -- IR-Net, IE-Net


def test_libra_balances_signs_and_scales_by_a_power_of_two() -> None:
    weight = 0.2 * W + 0.5
    found = q.libra_sign(weight, 1.0, 1.0)
    centred = weight - weight.mean((1, 2, 3), keepdim=True)
    hat = centred / weight.flatten(1).std(1).view(-1, 1, 1, 1)
    close(found.sign(), centred.sign())
    scale = found.abs()[:, 0, 0, 0]
    close(scale, 2 ** hat.abs().mean((1, 2, 3)).log2().round())


@pytest.mark.parametrize("name", ["libra", "ie_weight"])
def test_standardised_signs_have_the_gradient_through_the_standardisation(name: str) -> None:
    k, t, eps = 1.5, 0.8, {"libra": 0.0, "ie_weight": 1e-5}[name]

    def hat(weight: Tensor) -> Tensor:
        flat = weight.flatten(1)
        return ((flat - flat.mean(1, keepdim=True)) / (flat.var(1, keepdim=True) + eps).sqrt()).view_as(weight)

    here = hat(W)
    if name == "libra":
        slope = k * t * (1 - torch.tanh(t * here) ** 2) * 2 ** here.abs().mean((1, 2, 3), keepdim=True).log2().round()
    else:
        slope = k * (math.sqrt(3) * t - 1.5 * t * t * here.abs()).clamp(min=0)
    found = gradient(lambda w: q.QUANTIZERS.find(name)(w, k, t), W, G)
    close(found, differences(hat, W, G * slope), 1e-7)


# -- DoReFa


def test_dorefa_weights_of_one_bit_are_signs_with_one_scale_for_the_layer() -> None:
    close(k_bits.dorefa_weight(W, 1), W.sign() * W.abs().mean())
    close(gradient(lambda w: k_bits.dorefa_weight(w, 1), W, G), G * W.abs().mean())


@pytest.mark.parametrize("bits", [2, 8])
def test_dorefa_weights_have_their_levels_and_the_gradient_past_the_rounding(bits: int) -> None:
    def squashed(w: Tensor) -> Tensor:
        return torch.tanh(w) / torch.tanh(w).abs().max()

    steps = 2**bits - 1
    levels = (k_bits.dorefa_weight(W, bits) + 1) / 2 * steps
    close(levels, levels.round())
    close(levels, ((squashed(W) / 2 + 0.5) * steps).round())
    assert levels.min() >= 0 and levels.max() <= steps
    close(gradient(lambda w: k_bits.dorefa_weight(w, bits), W, G), differences(squashed, W, G), 1e-7)


def test_thirty_two_bits_change_nothing() -> None:
    assert k_bits.dorefa_weight(W, 32) is W
    assert k_bits.dorefa_activation(W, 32) is W
    assert k_bits.dorefa_gradient(W, 32) is W


@pytest.mark.parametrize(("bits", "expected"), [(1, [0, 0, 0, 1, 1, 1]), (2, [0, 0, 1 / 3, 2 / 3, 1, 1])])
def test_dorefa_activations_are_clipped_and_rounded(bits: int, expected: list[float]) -> None:
    x = torch.tensor([-1.0, 0.1, 0.4, 0.6, 0.9, 2.0], dtype=torch.float64)
    close(k_bits.dorefa_activation(x, bits), torch.tensor(expected, dtype=torch.float64))
    passed = gradient(lambda v: k_bits.dorefa_activation(v, bits), x, torch.ones_like(x))
    assert passed.tolist() == [0, 1, 1, 1, 1, 0]


def test_eight_bit_activations_have_256_levels() -> None:
    x = torch.linspace(-0.5, 1.5, 5001, dtype=torch.float64)
    assert len(k_bits.dorefa_activation(x, 8).unique()) == 256


@pytest.mark.parametrize("bits", [1, 2, 8])
def test_dorefa_gradients_come_in_few_levels_and_are_right_on_average(bits: int) -> None:
    torch.manual_seed(0)
    g = torch.tensor([[0.3, -1.0, 0.05], [0.0, 0.0, 0.0]], dtype=torch.float64)
    draws = torch.stack(
        [gradient(lambda v: k_bits.dorefa_gradient(v, bits), torch.zeros_like(g), g) for _ in range(4000)]
    )
    assert len(draws[:, 0].unique()) <= 2**bits
    inner = draws.mean(0)[0, [0, 2]]
    torch.testing.assert_close(inner, g[0, [0, 2]], atol=0.06, rtol=0)
    assert not draws[:, 1].abs().gt(1e-300).any()


# -- k bits, fixed point


def test_the_uniform_quantizer_of_one_bit_is_minus_one_or_one() -> None:
    x = torch.tensor([-1.0, -0.2, 0.2, 1.0])
    assert k_bits.uniform(x, 1).tolist() == [-1, -1, 1, 1]
    torch.testing.assert_close(k_bits.uniform(x, 2), torch.tensor([-1, -1 / 3, 1 / 3, 1]))


def test_fixed_point_rounds_and_saturates() -> None:
    x = torch.tensor([-9.0, -1.1, -0.1, 0.3, 0.9, 9.0], dtype=torch.float64)
    assert k_bits.fixed_point(x, 3, -1).tolist() == [-2, -1, 0, 0.5, 1, 1.5]
    assert gradient(lambda v: k_bits.fixed_point(v, 3, -1), x, torch.ones_like(x)).tolist() == [0, 1, 1, 1, 1, 0]


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_best_exponent_is_the_best_of_all(bits: int) -> None:
    found = k_bits.best_exponent(W, bits)
    scores = {v: k_bits.sqnr(W, k_bits.fixed_point(W, bits, v)) for v in range(-40, 20)}
    assert scores[found] == max(scores.values())


def test_sqnr_in_decibels_by_hand() -> None:
    x = torch.tensor([3.0, 4.0])
    assert k_bits.sqnr(x, torch.tensor([3.0, 3.5])) == pytest.approx(20.0)
    assert k_bits.sqnr(x, x) == math.inf
