"""Binary networks whose weights are bits, for inference."""

from __future__ import annotations

from . import kernels
from .as_text import as_text
from .found import Found, find, scaled_afterwards
from .layers import PackedConv2d, PackedLayer, PackedLinear
from .norms import foldable
from .packed import Packed, bits_of, find_binary, layer_state, pack
from .publish import publish
from .speed import CHANNELS_OF_FILTERS, FILTER, OUTPUTS, SIDE, Prepacked, SpeedUp, against_channels, against_filters

__all__ = [
    "CHANNELS_OF_FILTERS", "FILTER", "OUTPUTS", "SIDE", "Found", "Packed", "PackedConv2d", "PackedLayer",
    "PackedLinear", "Prepacked", "SpeedUp", "against_channels", "against_filters", "as_text", "bits_of", "find",
    "find_binary", "foldable", "kernels", "layer_state", "pack", "publish", "scaled_afterwards",
]
