"""What decorators declare, held against what the network does."""

from __future__ import annotations

from .check import check_declarations, check_kind, declared_ties

__all__ = [
    "check_declarations", "check_kind", "declared_ties",
]
