"""Ties found by running the network once with labels beside its tensors."""

from __future__ import annotations

from .counted_calls import SITE_RULES, Path, constants, said
from .trace import observe, trace

__all__ = [
    "SITE_RULES", "Path", "constants", "observe", "said", "trace",
]
