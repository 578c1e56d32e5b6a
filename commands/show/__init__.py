"""What a command shows: its voice on stdout and stderr, tables, pictures."""

from __future__ import annotations

from .console import Voice
from .tables import minutes, outcome, skipped, some, table

__all__ = [
    "Voice", "minutes", "outcome", "pictures", "skipped", "some", "table",
]
