"""Structural writing: a live, sliced network back into the author's own source."""

from __future__ import annotations

from secateur.pruners.entry import Entry
from secateur.pruners.places import LiteralSite
from secateur.pruners.source.file.render import Header
from secateur.pruners.source.writer import write_source

__all__ = ["Entry", "Header", "LiteralSite", "write_source"]
