"""Weights of a pruned network in the coordinates of the whole one.

    whole weight             kept rows 0, 2 and columns 1, 2           scattered back
    . . .                    pruned  a b                               . a b
    . . .          -->               c d   (retrained)      -->        . . .
    . . .                                                              . c d
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from ..graph import BoolArray, ChannelGraph, Kept, Slot

State = dict[str, torch.Tensor]
Index = tuple[torch.Tensor, ...]


def scatter(
    whole: Mapping[str, torch.Tensor], small: Mapping[str, torch.Tensor], graph: ChannelGraph, kept: Kept
) -> State:
    """The state of the whole network with the tensors of the sliced one put back where they came from.

    Positions of removed groups keep the values they have in ``whole``. Neither argument is changed.
    """
    masks = _by_tensor(graph, kept)
    result = {}
    for name, tensor in whole.items():
        result[name] = tensor.detach().clone()
        laid_out = graph.laid_out(name, result[name])
        index = _index(masks.get(graph.key(name), {}), laid_out)
        laid_out[index] = small[name].detach().to(tensor.device).reshape(laid_out[index].shape)
    return result


def zero_removed(whole: Mapping[str, torch.Tensor], graph: ChannelGraph, kept: Kept) -> State:
    """The state with zeros for everything that belongs to a removed group: the whole network then computes what
    the pruned one does, and metrics see nothing of what is gone."""
    masks = _by_tensor(graph, kept)
    result = {}
    for name, tensor in whole.items():
        laid_out = graph.laid_out(name, tensor.detach())
        index = _index(masks.get(graph.key(name), {}), laid_out)
        result[name] = torch.zeros_like(tensor)
        graph.laid_out(name, result[name])[index] = laid_out[index]
    return result


def _by_tensor(graph: ChannelGraph, kept: Kept) -> dict[str, dict[int, tuple[Slot, BoolArray]]]:
    result: dict[str, dict[int, tuple[Slot, BoolArray]]] = {}
    for slot, mask in graph.masks(kept).items():
        result.setdefault(slot.parameter, {})[slot.dim] = (slot, mask)
    return result


def _index(masks: Mapping[int, tuple[Slot, BoolArray]], tensor: torch.Tensor) -> Index:
    """Index arrays, broadcast against each other, that select what stays; empty for the whole tensor.

    The rows of a slot with blocks each keep the columns of their own block.
    """
    if not masks:
        return ()
    positions = [np.arange(n) for n in tensor.shape]
    for dim, (slot, mask) in masks.items():
        if slot.blocks == 1:
            positions[dim] = np.flatnonzero(mask)
    grid = list(np.ix_(*positions))
    for dim, (slot, mask) in masks.items():
        if slot.blocks > 1:
            columns = np.stack([np.flatnonzero(block) for block in mask.reshape(slot.blocks, -1)])
            row_blocks = positions[0] // (tensor.shape[0] // slot.blocks)
            grid[dim] = columns[row_blocks].reshape(len(row_blocks), -1, *[1] * (tensor.dim() - 2))
    return tuple(torch.from_numpy(np.ascontiguousarray(g)).to(tensor.device) for g in grid)
