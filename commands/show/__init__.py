"""What a command shows: its voice on stdout and stderr, tables, pictures."""

from __future__ import annotations

from .bar import Shown
from .console import Voice
from .tables import minutes, outcome, skipped, table

__all__ = [
    "Shown", "Voice", "minutes", "outcome", "pictures", "skipped", "table",
]
