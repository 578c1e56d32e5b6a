"""The report of a bundle: one HTML file, and the rows of the tables that terminals show as well."""

from __future__ import annotations

from .page import render_report
from .rows import comparison, difference_text
from .two import Compared, Side, compared, render_comparison

__all__ = [
    "Compared", "Side", "compared", "comparison", "difference_text", "render_comparison", "render_report",
]
