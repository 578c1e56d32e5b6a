"""Networks as files that other runtimes open: written, opened there, and held against the network."""

from __future__ import annotations

from .int8 import quantized
from .matching import TOLERANCE, TOLERANCE_INT8, Match, agreement, matched
from .program import Program, in_float16, packed_layers, program_of
from .targets import TARGETS, Target

__all__ = [
    "TARGETS", "TOLERANCE", "TOLERANCE_INT8", "Match", "Program", "Target", "agreement", "in_float16", "matched",
    "packed_layers", "program_of", "quantized",
]
