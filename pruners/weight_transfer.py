"""Weights of the pruned network from the original's."""

from __future__ import annotations

from collections.abc import Mapping

import numpy.typing as npt
import torch
from torch import Tensor

from pruners.channel_graph import BoolArray, ChannelGraph, Slot


def slice_state(state: Mapping[str, Tensor], graph: ChannelGraph, kept: Mapping[str, npt.ArrayLike]) -> dict[str, Tensor]:
    """The state_dict of the pruned network: the kept slices of every tensor, same keys, order and dtypes."""
    masks: dict[str, list[tuple[Slot, BoolArray]]] = {}
    for slot, mask in graph.masks(kept).items():
        masks.setdefault(slot.parameter, []).append((slot, mask))
    return {key: slice_tensor(value.detach(), masks.get(graph.aliases.get(key, key), [])) for key, value in state.items()}


def slice_tensor(tensor: Tensor, masks: list[tuple[Slot, BoolArray]]) -> Tensor:
    """Keep the masked positions of each slot. A grouped convolution keeps other inputs in every block of rows."""
    for slot, mask in (m for m in masks if m[0].blocks > 1):
        kept = torch.from_numpy(mask).view(slot.blocks, -1)
        rows = tensor.reshape(slot.blocks, -1, *tensor.shape[1:])
        tensor = torch.cat([block[:, keep] for block, keep in zip(rows, kept, strict=True)])
    for slot, mask in (m for m in masks if m[0].blocks == 1):
        tensor = tensor.index_select(slot.dim, torch.from_numpy(mask).nonzero().reshape(-1).to(tensor.device))
    return tensor
