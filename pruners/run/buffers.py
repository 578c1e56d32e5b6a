"""TODO"""

from __future__ import annotations

import torch

SMALL = 64  # elements of a buffer that may be written as a literal


def is_blank(tensor: torch.Tensor) -> bool:
    """Whether zeros or ones are all it holds."""
    return bool((tensor == 0).all() or (tensor == 1).all())
