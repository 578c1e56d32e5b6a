"""The channel graph: which slices of which tensors can only go together, and why."""

from __future__ import annotations

from .channel_graph import ChannelGraph
from .equivalence import prunable
from .explain import explain, partners, why
from .facts import SILENT, Facts, Freeze, SiteCall, Tie
from .layer_facts import (
    NORMS,
    LayerFacts,
    canonical_keys,
    fits,
    groups_of,
    input_size,
    is_weighted,
    norm_size,
)
from .solve import solve
from .together import together
from .widths import (
    BoolArray,
    Contraction,
    CountedCall,
    Extent,
    FrozenChannels,
    IntArray,
    Kept,
    Operation,
    Pass,
    Realize,
    Slot,
    Step,
    Untaken,
    Use,
    Width,
)

__all__ = [
    "NORMS", "SILENT", "BoolArray", "ChannelGraph", "Contraction", "CountedCall", "Extent", "Facts", "Freeze",
    "FrozenChannels", "IntArray", "Kept", "LayerFacts", "Operation", "Pass", "Realize", "SiteCall", "Slot", "Step",
    "Tie", "Untaken", "Use", "Width", "canonical_keys", "explain", "fits", "groups_of", "input_size", "is_weighted",
    "norm_size", "partners", "prunable", "solve", "together", "why",
]
