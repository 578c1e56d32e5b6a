"""``--transfer lstsq``: weights that make up for what is gone, by least squares, from images without labels.

    found = reconstruct(original, pruned, graph, kept, batches)
    pruned.load_state_dict(found.state)
"""

from secateur.pruners.least_squares.layer_by_layer import Settings
from secateur.pruners.least_squares.reconstruct import Reconstruction, reconstruct

__all__ = ["Reconstruction", "Settings", "reconstruct"]
