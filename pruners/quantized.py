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
