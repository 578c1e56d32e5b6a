"""The work of ``prune``: what it was given checked, searched, written and trained."""

from __future__ import annotations

from .data_checks import check_data, check_transfer, usual_transfer
from .elsewhere import workers_for
from .job import PruneJob
from .preview import first_look, preview_text, preview_values

__all__ = [
    "PruneJob", "check_data", "check_transfer", "first_look", "preview_text", "preview_values", "usual_transfer",
    "workers_for",
]
