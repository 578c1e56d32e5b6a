"""Inputs of another batch and of other sizes, made of an example."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from ..run import batch_size, training_batch, tree_leaves, tree_map
from .outputs import varied

_LARGE = 64  # places on a side, from which a smaller size is tried before a larger one
Lengths = Callable[[int], int]  # what an axis of this length becomes


def training_inputs(inputs: Any) -> Any:
    """Two different inputs where the example is one: what batch norms make of equal ones is rounding, multiplied."""
    batch = training_batch(inputs)
    return varied(batch, 3) if batch_size(batch) != batch_size(inputs) else inputs


def other_batch(inputs: Any) -> Any:
    """Three in place of the example's, or two."""
    old = batch_size(inputs)
    new = 3 if old != 3 else 2

    def resized(leaf: Any) -> Any:
        return _resized(leaf, {0: new}) if isinstance(leaf, Tensor) and leaf.ndim and leaf.shape[0] == old else leaf

    return tree_map(resized, inputs)


def other_sizes(inputs: Any) -> Iterator[tuple[str, Any]]:
    """Candidates, the most telling first: what the network takes is for the network to say. Each with its shape."""
    tensors = [t for t in tree_leaves(inputs) if isinstance(t, Tensor)]
    if any(t.ndim > 3 for t in tensors):
        longest = max(t.shape[-1] for t in tensors if t.ndim > 3)
        oblong, *even = _ways(longest)
        if longest >= 2 * _LARGE:
            yield _named(tree_map(lambda t: _in_space(t, _quarter, lambda n: _quarter(n) + 32), inputs))
        yield _named(tree_map(lambda t: _in_space(t, oblong, even[0]), inputs))
        for way in even:
            yield _named(tree_map(lambda t, way=way: _in_space(t, way, way), inputs))
        return
    for axis in (-1, 1):
        lengths = {t.shape[axis] for t in tensors if t.ndim == 3 or (t.ndim == 2 and axis == 1)} - {1}
        for way in (_shorter, _longer) if lengths else ():
            yield _named(tree_map(lambda t, old=frozenset(lengths), way=way: _in_length(t, old, way), inputs))


def _ways(length: int) -> tuple[Lengths, ...]:
    """Ways to change a side: at first two that go together as height and width."""
    if length >= _LARGE:
        return _less(64), _less(32), _half, (lambda n: n * 3 // 2)
    return (lambda n: n * 3 // 2), (lambda n: n * 2), (lambda n: n * 3 // 2), _half


def _less(by: int) -> Lengths:
    """Shorter by so much; half of a side that is short beside another, such as the frames of a film."""
    return lambda n: n - by if 2 * n > 3 * by else _half(n)


def _half(length: int) -> int:
    return max(1, length // 2)


def _quarter(length: int) -> int:
    """About a quarter, which what halves a side five times takes."""
    return -(-length // 128) * 32


def smaller(inputs: Any) -> list[Any]:
    """Inputs of a much smaller size, if there are some: what doesn't depend on the size is looked at there, where the
    network takes it."""
    return [other for _, other in islice(other_sizes(inputs), 1) if few(inputs, other)]


def few(inputs: Any, others: Any) -> bool:
    """Whether the others are so small that a pass costs less than half of one on the inputs."""
    return 2 * _places(others) < _places(inputs)


def _places(inputs: Any) -> int:
    return sum(t[0].numel() for t in tree_leaves(inputs) if isinstance(t, Tensor) and t.ndim and len(t))


def _shorter(length: int) -> int:
    return max(1, length - max(1, length // 4))


def _longer(length: int) -> int:
    return length + max(1, length // 2)


def _in_space(leaf: Any, height: Lengths, width: Lengths) -> Any:
    if not isinstance(leaf, Tensor) or leaf.ndim < 4:
        return leaf
    sizes = {axis: height(leaf.shape[axis]) for axis in range(2, leaf.ndim - 1)}
    return _resized(leaf, {**sizes, leaf.ndim - 1: width(leaf.shape[-1])})


def _in_length(leaf: Any, lengths: frozenset[int], way: Lengths) -> Any:
    """Every axis but the first that has one of these lengths: a mask has two."""
    if not isinstance(leaf, Tensor):
        return leaf
    return _resized(leaf, {a: way(n) for a, n in enumerate(leaf.shape) if a and n in lengths})


def _resized(tensor: Tensor, sizes: dict[int, int]) -> Tensor:
    """The tensor cut off, or repeated from its start: token numbers and masks are not invented. Floats are drawn."""
    for axis, size in sizes.items():
        tensor = tensor.index_select(axis, torch.arange(size, device=tensor.device) % tensor.shape[axis])
    if not sizes or not tensor.is_floating_point():
        return tensor
    generator = torch.Generator().manual_seed(3)
    return torch.randn(tensor.shape, generator=generator, dtype=torch.float64).to(tensor)


def _named(inputs: Any) -> tuple[str, Any]:
    first = next(t for t in tree_leaves(inputs) if isinstance(t, Tensor))
    return "x".join(map(str, first.shape[1:])), inputs
