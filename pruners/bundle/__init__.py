"""The folder that is published, and the report in it."""

from __future__ import annotations

from ..named_files import check_free
from .folder import (
    Bundle,
    import_text,
    published,
    size_of_state,
    write_file,
    write_state,
)
from .report import comparison, difference_text, frozen_facts, place, render_report

__all__ = [
    "Bundle", "check_free", "comparison", "difference_text", "frozen_facts", "import_text", "place", "published",
    "render_report", "size_of_state", "write_file", "write_state",
]
