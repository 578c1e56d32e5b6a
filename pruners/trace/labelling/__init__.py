"""Labels of live tensors, and the facts that rules state about them."""

from __future__ import annotations

from .axis_splits import Splits
from .call import Call
from .flat_weights import FlatWeights
from .labels import Labels, Planes, align, along, axes_of, compact, line_key, on_axis, touching
from .tracer import Tracer

__all__ = [
    "Call", "FlatWeights", "Labels", "Planes", "Splits", "Tracer", "align", "along", "axes_of", "compact", "line_key",
    "on_axis", "touching",
]
