"""Batch-norm statistics taken anew."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from ..errors import InputError
from .calling import images_of
from .torch_private import NormBase


def estimate_batch_norm(network: nn.Module, norms: Sequence[NormBase], batches: Iterable[Any]) -> int:
    """Take the statistics of these layers of a network in eval mode anew; on how many batches."""
    counts = [copy.deepcopy(m.num_batches_tracked) for m in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain average
        norm.train()
    seen = _run(network, batches)
    for norm, count in zip(norms, counts, strict=True):
        norm.num_batches_tracked = count
    return seen


def _run(network: nn.Module, batches: Iterable[Any]) -> int:
    """Run the network on every batch; how many there were."""
    seen = 0
    with torch.no_grad():
        for batch in batches:
            try:
                network(images_of(batch))
            except ValueError as error:  # torch's word for a batch of one value per channel
                raise InputError(f"--transfer bn can't use batch {seen + 1}: {error}") from error
            seen += 1
    return seen
