"""The soft-orthogonality loss: filters that point in different directions are worth more bits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...pruners.costs import quantizer_of


def soft_orthogonality(model: nn.Module) -> Tensor:
    """The sum over convolutions of || W^T W / N - I ||_F where weights are quantized, || W^T W - I ||_F elsewhere.

    W (N x filters) holds a filter of N = inputs x height x width numbers in each column, quantized as the layer
    computes with it; the gradient is the quantizer's. The norm is not squared. Grouped convolutions compare the filters
    of all groups. Linear layers have no part. (The experiments this comes from reshaped W so that its columns were not
    the filters; this is the matrix that was meant.) 0 for a network without convolutions.
    """
    total = next((p.new_zeros(()) for p in model.parameters()), torch.zeros(()))
    for layer in model.modules():
        if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            total = total + _of_layer(layer)
    return total


def _of_layer(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> Tensor:
    quantize = quantizer_of(layer)
    weight = layer.weight if quantize is None else quantize(layer.weight, layer)
    filters = weight.flatten(1)
    products = filters @ filters.T
    if quantize is not None:
        products = products / filters.shape[1]
    return torch.linalg.matrix_norm(products - torch.eye(len(filters), dtype=weight.dtype, device=weight.device))
