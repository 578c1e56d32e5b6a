"""How many channels each width keeps. Importing this registers the strategies."""

from __future__ import annotations

from . import bayesian, one_ratio, sensitivity
from .curves import RATIOS, Point, mean_curve, series_of, sweep
from .ledger import Ledger
from .prefix_cache import PrefixCache
from .problem import (
    UNJUDGED,
    Evaluate,
    Kept,
    Realize,
    Retrain,
    find_strategy,
    strategies,
    strategy,
    strategy_needs_labels,
)
from .search import Evaluation, SearchResult, SearchSettings, Watcher, search

__all__ = [
    "RATIOS", "UNJUDGED", "Evaluate", "Evaluation", "Kept", "Ledger", "Point", "PrefixCache", "Realize", "Retrain",
    "SearchResult", "SearchSettings", "Watcher", "bayesian", "find_strategy", "mean_curve", "one_ratio", "search",
    "sensitivity", "series_of", "strategies", "strategy", "strategy_needs_labels", "sweep",
]
