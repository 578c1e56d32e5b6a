"""A live, sliced copy of a network: the widths of a candidate made real, without writing source.

Tensors are cut, the size attributes of torch's own layers follow from them, and numbers in the author's code that count
channels are found by rehearsal (``rehearsal``).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch
from torch import nn

from secateur.pruners.graph.channel_graph import ChannelGraph
from secateur.pruners.places import LiteralSite
from secateur.pruners.rehearsal import rehearse
from secateur.pruners.standing_in import fit_attention
from secateur.pruners.weight_transfer import slice_state

Kept = Mapping[str, npt.ArrayLike]


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
    sliced = copy.deepcopy(model, _replacements(model, graph, kept))
    for module in sliced.modules():
        resize(module)
    fit_attention(sliced, graph, graph.masks(kept))
    return SlicedModel(sliced, rehearse(sliced, graph, kept, example_input))


def _replacements(model: nn.Module, graph: ChannelGraph, kept: Kept) -> dict[int, torch.Tensor]:
    """What ``copy.deepcopy`` is to take for the tensors that change, by their identity: they are never copied whole,
    and tied ones stay one object."""
    state = {**dict(model.named_buffers(remove_duplicate=False)), **model.state_dict(keep_vars=True)}
    found: dict[int, torch.Tensor] = {}
    for key, new in slice_state(state, graph, kept, model).items():
        old = state[key]
        if id(old) not in found and not torch.equal(new, old):
            new = new.detach()
            found[id(old)] = nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new
    return found


# -- size attributes of torch's own layers

Resizer = Callable[[Any], None]
RESIZERS: dict[type[nn.Module], Resizer] = {}


def resizer(*types: type[nn.Module]) -> Callable[[Resizer], Resizer]:
    """Register how a layer's size attributes follow from its tensors."""

    def register(function: Resizer) -> Resizer:
        RESIZERS.update(dict.fromkeys(types, function))
        return function

    return register


def resize(module: nn.Module) -> None:
    found = next((RESIZERS[t] for t in type(module).__mro__ if t in RESIZERS), None)
    if found is not None:
        found(module)


@resizer(nn.Conv1d, nn.Conv2d, nn.Conv3d)
def _conv(layer: Any) -> None:
    out, per_group = layer.weight.shape[:2]
    if layer.groups > 1 and layer.in_channels == layer.groups:  # depth-wise: as many groups as inputs
        layer.groups = out // (layer.out_channels // layer.groups)
    layer.out_channels, layer.in_channels = out, per_group * layer.groups


@resizer(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
def _conv_transposed(layer: Any) -> None:
    incoming, per_group = layer.weight.shape[:2]
    if layer.groups > 1 and layer.in_channels == layer.groups:
        layer.groups = incoming
    layer.in_channels, layer.out_channels = incoming, per_group * layer.groups


@resizer(nn.Linear)
def _linear(layer: Any) -> None:
    layer.out_features, layer.in_features = layer.weight.shape


@resizer(nn.modules.batchnorm._NormBase)
def _batch_norm(layer: Any) -> None:
    vector = layer.running_mean if layer.running_mean is not None else layer.weight
    if vector is not None:
        layer.num_features = vector.numel()


@resizer(nn.LayerNorm, nn.RMSNorm)
def _layer_norm(layer: Any) -> None:
    if layer.weight is not None:
        layer.normalized_shape = tuple(layer.weight.shape)


@resizer(nn.GroupNorm)
def _group_norm(layer: Any) -> None:
    if layer.weight is not None:
        if layer.num_groups == layer.num_channels:  # each channel for itself
            layer.num_groups = layer.weight.numel()
        layer.num_channels = layer.weight.numel()


@resizer(nn.PReLU)
def _prelu(layer: Any) -> None:
    layer.num_parameters = layer.weight.numel()


@resizer(nn.RNNBase)
def _recurrent(layer: Any) -> None:
    projected = layer.proj_size > 0
    layer.input_size, layer.hidden_size = layer.weight_ih_l0.shape[1], layer.weight_hh_l0.shape[0] // _gates(layer)
    layer.proj_size = layer.weight_hh_l0.shape[1] if projected else 0
    layer._init_flat_weights()


@resizer(nn.RNNCellBase)
def _recurrent_cell(layer: Any) -> None:
    layer.input_size, layer.hidden_size = layer.weight_ih.shape[1], layer.weight_hh.shape[1]


def _gates(layer: nn.RNNBase) -> int:
    return {"LSTM": 4, "GRU": 3}.get(layer.mode, 1)


@resizer(nn.Bilinear)
def _bilinear(layer: Any) -> None:
    layer.out_features, layer.in1_features, layer.in2_features = layer.weight.shape


@resizer(nn.Embedding, nn.EmbeddingBag)
def _embedding(layer: Any) -> None:
    layer.num_embeddings, layer.embedding_dim = layer.weight.shape
