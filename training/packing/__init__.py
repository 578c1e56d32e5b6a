"""Binary networks whose weights are bits, for inference."""

from __future__ import annotations

from . import kernels
from .found import Found, find, scaled_afterwards
from .layers import PackedConv2d, PackedLayer, PackedLinear
from .norms import foldable
from .packed import Packed, bits_of, find_binary, layer_state, pack
from .publish import publish

__all__ = [
    "Found", "Packed", "PackedConv2d", "PackedLayer", "PackedLinear", "bits_of", "find", "find_binary", "foldable",
    "kernels", "layer_state", "pack", "publish", "scaled_afterwards",
]
