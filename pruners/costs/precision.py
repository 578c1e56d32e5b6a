"""Layers of few bits: what their numbers need and what they compute with, told by whoever makes such layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

Quantize = Callable[[Tensor, Any], Tensor]
Bits = float | Callable[[Any], float]


@dataclass(frozen=True)
class Precision:
    """What holds for the layers of a class and its subclasses; bits may be functions of the layer.

    ``weights``: bits of one element of the weight (None: what its dtype takes); ``per_row``: those that are stored on
    top for each position of the first axis, such as a scale per filter. ``inputs``: to how many bits inputs are
    quantized. ``quantize(weight, layer)``: what layers with latent weights compute with, in the weight's shape and with
    the gradient that training gives it; ``weight`` may be a part of the layer's own, with all of its rows.
    """

    weights: Bits | None = None
    per_row: float = 0.0
    inputs: Bits = 32.0
    quantize: Quantize | None = None


_KNOWN: dict[type[nn.Module], Precision] = {}


def register_precision(layer: type[nn.Module], **known: Any) -> None:
    """Say something of the fields of ``Precision`` for a class; what was known of it or its bases stays."""
    _KNOWN[layer] = replace(precision_for(layer), **known)


def register_same_precision(layer: type[nn.Module], twin: type[nn.Module]) -> None:
    """What is registered for ``twin`` holds for ``layer``, too."""
    if twin in _KNOWN:
        _KNOWN[layer] = _KNOWN[twin]


def precision_for(layer: type[nn.Module]) -> Precision:
    return next((_KNOWN[kind] for kind in layer.__mro__ if kind in _KNOWN), Precision())


def quantizer_of(layer: nn.Module) -> Quantize | None:
    """None for a layer that computes with its weights as they are."""
    return precision_for(type(layer)).quantize


def input_bits(layer: nn.Module) -> float:
    """Bits of one number that enters the arithmetic of this layer; 32 where they are not quantized."""
    return bits_in(layer, precision_for(type(layer)).inputs)


def bits_in(layer: nn.Module, bits: Bits) -> float:
    return bits(layer) if callable(bits) else bits
