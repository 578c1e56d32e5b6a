"""The folder that is published, and the report in it."""

from __future__ import annotations

from ..outputs import check_free, contents, discard, held, published, write_file
from .details import details
from .facts import frozen_facts, place
from .folder import Bundle, import_text, report_of, size_of_state, write_state
from .report import Compared, Side, compared, comparison, difference_text, render_comparison, render_report

__all__ = [
    "Bundle", "Compared", "Side", "check_free", "compared", "comparison", "contents", "details", "difference_text",
    "discard", "frozen_facts", "held", "import_text", "place", "published", "render_comparison", "render_report",
    "report_of", "size_of_state", "write_file", "write_state",
]
