"""The folder that is published, and the report in it."""

from __future__ import annotations

from ..outputs import check_free, contents, discard, held, published, write_file
from .folder import Bundle, import_text, size_of_state, write_state
from .report import comparison, difference_text, frozen_facts, place, render_report

__all__ = [
    "Bundle", "check_free", "comparison", "contents", "difference_text", "discard", "frozen_facts", "held",
    "import_text", "place", "published", "render_report", "size_of_state", "write_file", "write_state",
]
