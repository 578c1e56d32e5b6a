"""Ties found by running the network once with labels beside its tensors."""

from __future__ import annotations

from .counted_calls import SITE_RULES, Path, constants, said
from .labelling import Labels, Tracer
from .rules import Call, elementwise, freeze_axes, label_rule
from .trace import observe, trace

__all__ = [
    "SITE_RULES", "Call", "Labels", "Path", "Tracer", "constants", "elementwise", "freeze_axes", "label_rule",
    "observe", "said", "trace",
]
