"""The example input in other sizes: what a number in the author's code depends on shows there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .torch_private import tree_leaves, tree_map

_LARGE = 64  # from here on an axis grows by a part of its size only


def larger_batch(example_input: Any) -> Any:
    """More items in every tensor that has the batch: one, or two where training doubles the one there is."""
    return _resized(example_input, lambda t: {0: max(3, t.shape[0] + 1)})


def larger_sizes(example_input: Any) -> Iterator[Sequence[Any]]:
    """The same input with more places: images of another height and width, longer sequences. Ways to lay more places
    out, and for each a smaller and a larger input. The first way that the network takes will do."""
    ranks = {t.ndim for t in tree_leaves(example_input) if isinstance(t, Tensor)}
    if max(ranks, default=0) > 3:
        yield [_resized(example_input, partial(_larger_image, times=times)) for times in (1, 2)]
        yield [_resized(example_input, partial(_square_image, times=times)) for times in (2, 3)]
    else:
        yield [_resized(example_input, partial(_longer, axis=-1, times=times)) for times in (2, 3)]
        if 3 in ranks:
            yield [_resized(example_input, partial(_longer, axis=1, times=times)) for times in (2, 3)]


def _larger_image(tensor: Tensor, times: int) -> dict[int, int]:
    return {a: _grown(tensor.shape[a], times * (a - 1)) for a in range(2, tensor.ndim) if tensor.ndim > 3}


def _square_image(tensor: Tensor, times: int) -> dict[int, int]:
    return {a: times * tensor.shape[a] for a in range(2, tensor.ndim) if tensor.ndim > 3}


def _longer(tensor: Tensor, axis: int, times: int) -> dict[int, int]:
    return {axis % tensor.ndim: times * tensor.shape[axis]} if tensor.ndim > 1 else {}


def _grown(size: int, steps: int) -> int:
    """The axes grow by different parts, so that no two numbers are the same by chance."""
    return size + steps * (32 if size >= _LARGE else size)


def _resized(example_input: Any, sizes: Any) -> Any:
    """Every tensor with the sizes that ``sizes`` gives for its axes, filled with what it holds, over and over."""

    def repeated(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or not leaf.ndim or not leaf.numel():
            return leaf
        for axis, size in sizes(leaf).items():
            leaf = leaf.index_select(axis, torch.arange(size, device=leaf.device) % leaf.shape[axis])
        return leaf

    if isinstance(example_input, Mapping):
        return {key: tree_map(repeated, value) for key, value in example_input.items()}
    return tree_map(repeated, example_input)
