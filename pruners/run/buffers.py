"""Buffers that no state_dict holds: which of them source code can say."""

from __future__ import annotations

import torch

SMALL = 64  # elements of a buffer that may be written as a literal


def is_blank(tensor: torch.Tensor) -> bool:
    """Whether zeros or ones are all it holds."""
    return bool((tensor == 0).all() or (tensor == 1).all())


UNSAVED = (
    "the buffer self.{} is not in the state_dict, is too large for a literal, and no expression of the constructor "
    "gives its values; register it with persistent=True"
)
