"""``--transfer lstsq``: weights that make up for what is gone, by least squares, from images without labels.

found = reconstruct(original, pruned, graph, kept, batches)
pruned.load_state_dict(found.state)
"""

from __future__ import annotations

from .elimination import Elimination, Independent, System, eliminate
from .fit import Fitted
from .fittable import consumers
from .gram import Gram
from .layer_by_layer import Settings
from .layer_inputs import LARGE, Reader, run
from .linear_layers import as_system
from .probe_fits import QuickFits
from .reconstruct import Reconstruction, reconstruct
from .sampling import Look
from .solve import RIDGE

__all__ = [
    "LARGE", "RIDGE", "Elimination", "Fitted", "Gram", "Independent", "Look", "QuickFits", "Reader",
    "Reconstruction", "Settings", "System", "as_system", "consumers", "eliminate", "reconstruct", "run",
]
