"""Binary networks whose weights are bits, for inference."""

from __future__ import annotations

from .found import Found, find, scaled_afterwards
from .layers import PackedConv2d, PackedLayer, PackedLinear
from .packed import Packed, bits_of, find_binary, layer_state, pack
from .publish import publish

__all__ = [
    "Found", "Packed", "PackedConv2d", "PackedLayer", "PackedLinear", "bits_of", "find", "find_binary", "layer_state",
    "pack", "publish", "scaled_afterwards",
]
