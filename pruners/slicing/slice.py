"""A live, sliced copy of a network: the widths of a candidate made real, without writing source.

Tensors are cut, the size attributes of torch's own layers follow from them, and numbers in the author's code that count
channels are found by rehearsal (``rehearsal``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..graph import ChannelGraph, Kept
from ..places import LiteralSite
from ..run import copied, same_values
from ..weight_transfer import slice_state
from .attention import fit_attention
from .layer_sizes import resize
from .rehearse import rehearse


@dataclass(frozen=True)
class SlicedModel:
    """``model`` runs as it is if ``literals`` is empty; else only its written source does."""

    model: nn.Module
    literals: tuple[LiteralSite, ...] = ()

    @property
    def runs(self) -> bool:
        return not self.literals


def slice_model(model: nn.Module, graph: ChannelGraph, kept: Kept, example_input: Any) -> SlicedModel:
    """A copy of the model that holds only the kept channels.

    ``kept``: width name -> kept group indices; widths that are not named stay whole. The model itself is not
    touched. Raises NotPrunableError, naming file and line, where a number in the code can't follow.
    """
    sliced = copied(model, _replacements(model, graph, kept))
    for module in sliced.modules():
        resize(module)
    fit_attention(sliced, graph, graph.masks(kept))
    return SlicedModel(sliced, rehearse(sliced, graph, kept, example_input, model))


def _replacements(model: nn.Module, graph: ChannelGraph, kept: Kept) -> dict[int, torch.Tensor]:
    """What ``copy.deepcopy`` is to take for the tensors that change, by their identity: they are never copied whole,
    and tied ones stay one object."""
    state = {**dict(model.named_buffers(remove_duplicate=False)), **model.state_dict(keep_vars=True)}
    found: dict[int, torch.Tensor] = {}
    for key, new in slice_state(state, graph, kept, model).items():
        old = state[key]
        if id(old) not in found and not same_values(new, old):
            new = new.detach()
            found[id(old)] = nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new
    return found


# -- size attributes of torch's own layers
