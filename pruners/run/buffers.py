"""Buffers that no state_dict holds: which of them source code can say."""

from __future__ import annotations

import torch

SMALL = 64  # elements of a buffer that may be written as a literal


def is_blank(tensor: torch.Tensor) -> bool:
    """Whether zeros or ones are all it holds."""
    values = dense(tensor)
    return bool((values == 0).all() or (values == 1).all())


def dense(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor with all its zeros, which torch can't compare or list otherwise."""
    return tensor if tensor.layout == torch.strided else tensor.to_dense()


def same_values(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether two tensors are of the same shape and layout, and hold the same."""
    alike = first.shape == second.shape and first.layout == second.layout
    return alike and torch.equal(dense(first), dense(second))


UNSAVED = (
    "the buffer self.{} is not in the state_dict, is too large for a literal, and no expression of the constructor "
    "gives its values"
)
SAVED = "register it with persistent=True"
