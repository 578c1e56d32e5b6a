"""What the candidates of a search have in common, computed once."""

from __future__ import annotations

from .cache import PrefixCache, Speed

__all__ = [
    "PrefixCache", "Speed",
]
