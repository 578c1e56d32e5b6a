"""How many channels each width keeps. Importing this registers the strategies."""

from __future__ import annotations

from . import bayesian, one_ratio, sensitivity
from .curves import RATIOS, Point, mean_curve, series_of, sweep
from .damage import Reference
from .ledger import Ledger
from .prefix_cache import PrefixCache
from .problem import (
    NO_LOSSES,
    SEARCHES,
    UNJUDGED,
    Evaluate,
    Evaluation,
    Retrain,
    Scored,
    SearchResult,
    SearchSettings,
    Watcher,
    search_strategy,
)
from .search import search

__all__ = [
    "NO_LOSSES", "RATIOS", "SEARCHES", "UNJUDGED", "Evaluate", "Evaluation", "Ledger", "Point", "PrefixCache",
    "Reference", "Retrain", "Scored", "SearchResult", "SearchSettings", "Watcher", "bayesian", "mean_curve",
    "one_ratio", "search", "search_strategy", "sensitivity", "series_of", "sweep",
]
