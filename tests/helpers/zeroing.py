"""What a pruned network must compute, as a network of its own."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy.typing as npt
from torch import nn

from secateur.pruners.graph import ChannelGraph
from secateur.pruners.verify import oracle


def zeroed_copy(model: nn.Module, graph: ChannelGraph, kept: Mapping[str, npt.ArrayLike]) -> nn.Module:
    """A copy of the model in which nothing reads the removed channels."""
    masked = copy.deepcopy(model)
    oracle.zero(masked, graph, kept)
    return masked
