"""Which channels go first: metrics that score the groups of every width, and the ranking made from them.

Importing this registers them; a metric is one decorated function.
"""

from __future__ import annotations

from . import binary, gradients, reconstruction, weights
from .binary import KERNEL_METRICS
from .ranking import FIRST, Ranking, rank
from .registry import METRICS, Batch, check_labels, metric

__all__ = [
    "FIRST", "KERNEL_METRICS", "METRICS", "Batch", "Ranking", "binary", "check_labels", "gradients", "metric",
    "rank", "reconstruction", "weights",
]
