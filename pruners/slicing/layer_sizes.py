"""The size attributes of torch's own layers, as they follow from their tensors."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

from torch import nn

from ..run import NormBase, gather_weights


@singledispatch
def resize(layer: Any) -> None:
    """Let a layer's own numbers follow the tensors it has now; layers without such numbers stay."""


@resize.register(nn.Conv1d | nn.Conv2d | nn.Conv3d)
def _conv(layer: Any) -> None:
    out, per_group = layer.weight.shape[:2]
    if layer.groups > 1 and layer.in_channels == layer.groups:  # depth-wise: as many groups as inputs
        layer.groups = out // (layer.out_channels // layer.groups)
    layer.out_channels, layer.in_channels = out, per_group * layer.groups


@resize.register(nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)
def _conv_transposed(layer: Any) -> None:
    incoming, per_group = layer.weight.shape[:2]
    if layer.groups > 1 and layer.in_channels == layer.groups:
        layer.groups = incoming
    layer.in_channels, layer.out_channels = incoming, per_group * layer.groups


@resize.register(nn.Linear)
def _linear(layer: Any) -> None:
    layer.out_features, layer.in_features = layer.weight.shape


@resize.register(NormBase)
def _batch_norm(layer: Any) -> None:
    vector = layer.running_mean if layer.running_mean is not None else layer.weight
    if vector is not None:
        layer.num_features = vector.numel()


@resize.register(nn.LayerNorm | nn.RMSNorm)
def _layer_norm(layer: Any) -> None:
    if layer.weight is not None:
        layer.normalized_shape = tuple(layer.weight.shape)


@resize.register(nn.GroupNorm)
def _group_norm(layer: Any) -> None:
    if layer.weight is not None:
        if layer.num_groups == layer.num_channels:  # each channel for itself
            layer.num_groups = layer.weight.numel()
        layer.num_channels = layer.weight.numel()


@resize.register(nn.PReLU)
def _prelu(layer: Any) -> None:
    layer.num_parameters = layer.weight.numel()


@resize.register(nn.RNNBase)
def _recurrent(layer: Any) -> None:
    projected = layer.proj_size > 0
    layer.input_size, layer.hidden_size = layer.weight_ih_l0.shape[1], layer.weight_hh_l0.shape[0] // _gates(layer)
    layer.proj_size = layer.weight_hh_l0.shape[1] if projected else 0
    gather_weights(layer)


@resize.register(nn.RNNCellBase)
def _recurrent_cell(layer: Any) -> None:
    layer.input_size, layer.hidden_size = layer.weight_ih.shape[1], layer.weight_hh.shape[1]


def _gates(layer: nn.RNNBase) -> int:
    return {"LSTM": 4, "GRU": 3}.get(layer.mode, 1)


@resize.register(nn.Bilinear)
def _bilinear(layer: Any) -> None:
    layer.out_features, layer.in1_features, layer.in2_features = layer.weight.shape


@resize.register(nn.Embedding | nn.EmbeddingBag)
def _embedding(layer: Any) -> None:
    layer.num_embeddings, layer.embedding_dim = layer.weight.shape
