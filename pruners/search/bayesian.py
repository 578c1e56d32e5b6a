"""The strategy that weighs loss against size: width by width, or all stages at once."""

from __future__ import annotations

import logging

from .bayesian_layerwise import LayerwiseSearch
from .bayesian_staged import StagedSearch
from .problem import Problem, SearchResult, search_strategy

log = logging.getLogger(__name__)

MANY = 30
"""Widths, from which on a search of each of them takes long."""


@search_strategy("bayesian", labels=True)
def bayesian(problem: Problem) -> SearchResult:
    """``LayerwiseSearch``, or ``StagedSearch`` with ``per="stage"``."""
    problem.allowance.require_reachable()
    if problem.settings.per == "stage":
        return StagedSearch(problem).run()
    layerwise = LayerwiseSearch(problem)
    if len(layerwise.widths) > MANY:
        log.warning(
            f"{len(layerwise.widths)} widths one after the other: up to {layerwise.total} evaluations; "
            "--per stage searches a few groups of widths at once, in far fewer"
        )
    return layerwise.run()
