"""Which channels go first: metrics that score the groups of every width, and the ranking made from them.

Importing this registers them; a metric is one decorated function.
"""

from __future__ import annotations

from . import binary, gradients, reconstruction, weights
from .binary import KERNEL_METRICS
from .ranking import FIRST, Ranking, rank
from .registry import METRICS, Batch, check_labels, metric
from .sparsity import USUAL as USUAL_SPARSITY
from .sparsity import Sparsity

__all__ = [
    "FIRST", "KERNEL_METRICS", "METRICS", "USUAL_SPARSITY", "Batch", "Ranking", "Sparsity", "binary", "check_labels",
    "gradients", "metric", "rank", "reconstruction", "weights",
]
