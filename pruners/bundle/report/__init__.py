"""The report of a bundle: one HTML file, and the rows of the tables that terminals show as well."""

from __future__ import annotations

from .page import render_report
from .rows import comparison, difference_text

__all__ = ["comparison", "difference_text", "render_report"]
