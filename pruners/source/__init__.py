"""Structural writing: a live, sliced network back into the author's own source."""

from __future__ import annotations

from ..entry import Entry
from ..places import LiteralSite
from .file.render import Header
from .live import Tree, refuse
from .origins import authors_texts
from .text import Sources
from .writer import Written, write, write_source

__all__ = [
    "Entry", "Header", "LiteralSite", "Sources", "Tree", "Written", "authors_texts", "refuse", "write", "write_source",
]
