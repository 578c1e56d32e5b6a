"""How many channels each width keeps. Importing this registers the strategies."""

from __future__ import annotations

from . import bayesian, one_ratio, sensitivity
from .curves import RATIOS, Point, mean_curve, series_of, sweep
from .damage import Reference
from .ledger import Ledger
from .prefix_cache import PrefixCache
from .problem import (
    SEARCHES,
    UNJUDGED,
    Evaluate,
    Evaluation,
    Retrain,
    SearchResult,
    SearchSettings,
    Watcher,
    search_strategy,
)
from .search import search

__all__ = [
    "RATIOS", "SEARCHES", "UNJUDGED", "Evaluate", "Evaluation", "Ledger", "Point", "PrefixCache",
    "Reference", "Retrain", "SearchResult", "SearchSettings", "Watcher", "bayesian", "mean_curve", "one_ratio",
    "search", "search_strategy", "sensitivity", "series_of", "sweep",
]
