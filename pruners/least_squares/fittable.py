"""Which layers can be fitted, and which of those that read pruned widths can't."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from ..costs import quantizer_of
from ..graph import ChannelGraph, Kept, Slot, Width
from ..run import ConvBase
from .linear_layers import fittable


def layers_to_fit(network: nn.Module) -> list[str]:
    """Convolutions and linear layers that compute with a weight of their own."""
    holders = _holders(network)
    layers = ((name, layer) for name, layer in network.named_modules() if _plain(layer))
    return [name for name, layer in layers if not _obstacle(layer, "weight", holders)]


def consumers(network: nn.Module, widths: Iterable[Width]) -> dict[str, str]:
    """Layers that read channels of these widths, and why they can't be fitted: "" where they can."""
    holders = _holders(network)
    slots = dict.fromkeys(u.slot for w in widths for u in w.uses if u.role == "in" and not u.slot.virtual)
    found: dict[str, str] = {}
    for slot in slots:
        reason = _obstacle(network.get_submodule(slot.layer), slot.parameter.rpartition(".")[2], holders)
        found[slot.layer or slot.parameter] = found.get(slot.layer, "") or reason
    return found


def _holders(network: nn.Module) -> Mapping[int, int]:
    """How many modules hold a parameter, by its identity."""
    return Counter(id(p) for m in network.modules() for p in m._parameters.values())


def _plain(layer: nn.Module) -> bool:
    return isinstance(layer, (nn.Linear, ConvBase))


def _obstacle(layer: nn.Module, parameter: str, holders: Mapping[int, int]) -> str:
    """Why a layer that reads its input through this parameter can't be fitted."""
    kind = type(layer).__name__
    if quantizer_of(layer) is not None:
        return f"{kind} quantizes its weights"
    if not _plain(layer) or not fittable(layer) or parameter != "weight":
        return f"{kind} is no plain convolution or linear layer"
    if holders[id(layer.weight)] > 1:
        return "its weight is another layer's, too"
    return ""


def kept_outputs(graph: ChannelGraph, kept: Kept, layers: Iterable[str]) -> dict[str, Tensor]:
    """For each layer that loses output channels, the positions of those that stay."""
    masks = graph.masks(kept)
    slots = {layer: Slot(graph.key(layer, "weight"), 0) for layer in layers}
    return {k: torch.from_numpy(masks[slot]).nonzero().reshape(-1) for k, slot in slots.items() if slot in masks}
