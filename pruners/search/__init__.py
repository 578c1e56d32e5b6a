"""How many channels each width keeps. Importing this registers the strategies."""

from __future__ import annotations

from . import bayesian, one_ratio, sensitivity
from .bench import Bench, Evaluate, Evaluator, Scored
from .curves import RATIOS, Point, mean_curve, series_of, sweep
from .damage import Reference
from .ledger import Ledger
from .prefix_cache import PrefixCache
from .problem import (
    NO_LOSSES,
    ONE_BY_ONE,
    SEARCHES,
    UNJUDGED,
    Evaluation,
    Retrain,
    SearchResult,
    SearchSettings,
    Watcher,
    search_strategy,
)
from .search import search
from .workers import Recipe, Workers, workers_with

__all__ = [
    "NO_LOSSES", "ONE_BY_ONE", "RATIOS", "SEARCHES", "UNJUDGED", "Bench", "Evaluate", "Evaluation", "Evaluator",
    "Ledger", "Point", "PrefixCache", "Recipe", "Reference", "Retrain", "Scored", "SearchResult", "SearchSettings",
    "Watcher", "Workers", "bayesian", "mean_curve", "one_ratio", "search", "search_strategy", "sensitivity",
    "series_of", "sweep", "workers_with",
]
