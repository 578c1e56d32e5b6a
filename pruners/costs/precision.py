"""Layers with latent weights: what they compute with, told by whoever makes such layers (as precisions are)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

Quantize = Callable[[Tensor, Any], Tensor]
_QUANTIZERS: dict[type[nn.Module], Quantize] = {}


def register_quantizer(layer: type[nn.Module], quantize: Quantize) -> None:
    """``quantize(weight, layer)``: what layers of this class and its subclasses compute with, in the weight's shape and
    with the gradient that training gives it. ``weight`` may be a part of the layer's own, with all of its rows."""
    _QUANTIZERS[layer] = quantize


def register_same_quantizer(layer: type[nn.Module], twin: type[nn.Module]) -> None:
    """What is registered for ``twin`` holds for ``layer``, too."""
    if twin in _QUANTIZERS:
        _QUANTIZERS[layer] = _QUANTIZERS[twin]


def quantizer_of(layer: nn.Module) -> Quantize | None:
    """None for a layer that computes with its weights as they are."""
    return next((_QUANTIZERS[kind] for kind in type(layer).__mro__ if kind in _QUANTIZERS), None)


Bits = float | Callable[[Any], float]


_PRECISIONS: dict[tuple[type[nn.Module], str], tuple[Bits, float]] = {}


_INPUT_PRECISIONS: dict[type[nn.Module], Bits] = {}


def register_precision(layer: type[nn.Module], bits: Bits, parameter: str = "weight", *, per_row: float = 0.0) -> None:
    """Say how many bits one element of ``parameter`` needs in layers of this class and its subclasses (default:
    what its dtype takes). A binary layer registers 1, or a function of the layer. ``per_row``: bits that are stored
    on top for each position of the first axis, such as a scale per filter."""
    _PRECISIONS[layer, parameter] = bits, per_row


def register_input_precision(layer: type[nn.Module], bits: Bits) -> None:
    """Say to how many bits layers of this class and its subclasses quantize their inputs (default: not at all)."""
    _INPUT_PRECISIONS[layer] = bits


def input_bits(module: nn.Module) -> float:
    """Bits of one number that enters the arithmetic of this layer; 32 where they are not quantized."""
    for kind in type(module).__mro__:
        if kind in _INPUT_PRECISIONS:
            bits = _INPUT_PRECISIONS[kind]
            return bits(module) if callable(bits) else bits
    return 32.0


def register_same_precision(layer: type[nn.Module], twin: type[nn.Module]) -> None:
    """What is registered for ``twin`` holds for ``layer``, too."""
    if twin in _INPUT_PRECISIONS:
        _INPUT_PRECISIONS[layer] = _INPUT_PRECISIONS[twin]
    for (kind, parameter), precision in list(_PRECISIONS.items()):
        if kind is twin:
            _PRECISIONS[layer, parameter] = precision
