"""The folder that is published, and the report in it."""

from __future__ import annotations

from .folder import (
    Bundle,
    check_free,
    import_text,
    published,
    size_of_state,
    write_file,
    write_state,
)
from .report import comparison, frozen_facts, place, render_report

__all__ = [
    "Bundle", "check_free", "comparison", "frozen_facts", "import_text", "place", "published", "render_report",
    "size_of_state", "write_file", "write_state",
]
