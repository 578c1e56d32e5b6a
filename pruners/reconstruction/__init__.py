"""``--transfer lstsq``: weights that make up for what is gone, by least squares, from images without labels.

    found = reconstruct(original, pruned, graph, kept, batches)
    pruned.load_state_dict(found.state)
"""

from secateur.pruners.reconstruction.networks import Reconstruction, reconstruct
from secateur.pruners.reconstruction.walk import Settings

__all__ = ["Reconstruction", "Settings", "reconstruct"]
