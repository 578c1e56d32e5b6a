"""A live copy of the network without the channels that go, and the numbers in its code that must follow."""

from __future__ import annotations

from .in_place import narrowing
from .layer_sizes import resize
from .rehearse import corrected
from .slice import SlicedModel, slice_model
from .trial import workable
from .zeroing import zero_kernels, zero_out

__all__ = [
    "SlicedModel", "corrected", "narrowing", "resize", "slice_model", "workable", "zero_kernels", "zero_out",
]
