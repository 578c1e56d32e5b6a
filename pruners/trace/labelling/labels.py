"""Labels: which channel every element of a tensor belongs to, kept as planes.

A tensor of shape (2, 64, 7, 7) whose axis 1 holds channels carries one *plane* of shape (1, 64, 1, 1): size 1 on
every axis along which the labels don't vary. A tensor may carry several planes (a weight has one for its output
and one for its input axis); an element goes as soon as one of its labels goes. Label 0 means "must stay".
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

Planes = tuple[Tensor, ...]


@dataclass(frozen=True)
class Labels:
    """The planes of one tensor. ``weight`` names the parameter whose elements the tensor holds, if it is one.
    ``numbered``: channels that must stay if anything reads it, and ``because`` of what: its elements are their numbers,
    or one of them. Code that only asks for its size doesn't."""

    planes: Planes = ()
    weight: str | None = None
    numbered: Planes = ()
    because: str = "channels are read by number"


NONE = Labels()


def axes_of(plane: Tensor) -> tuple[int, ...]:
    """The axes along which a plane varies."""
    return tuple(a for a, n in enumerate(plane.shape) if n > 1)


def on_axis(plane: Tensor, axis: int, ndim: int) -> Tensor:
    """A one-dimensional list of labels, laid along one axis of an ndim-dimensional tensor."""
    shape = [1] * ndim
    shape[axis] = plane.numel()
    return plane.reshape(shape)


def line_key(line: Tensor) -> bytes:
    """Equal for the same channels in the same order."""
    return line.numpy().astype("int64").tobytes()


def compact(labels: Tensor) -> Tensor:
    """Drop (to size 1) every axis along which the labels don't vary: those that repeat one element in memory first."""
    for axis in range(labels.ndim):
        if labels.shape[axis] > 1 and labels.stride(axis) == 0:
            labels = labels.narrow(axis, 0, 1)
    for axis in range(labels.ndim):
        if labels.shape[axis] > 1:
            first = labels.narrow(axis, 0, 1)
            if bool((labels == first).all()):
                labels = first
    return labels


def align(plane: Tensor, ndim: int) -> Tensor:
    """Add leading axes, as broadcasting does."""
    return plane.reshape((1,) * (ndim - plane.ndim) + tuple(plane.shape))


def along(labels: Labels, axis: int) -> Tensor | None:
    """The plane that varies along this axis only, as a one-dimensional tensor; None if there is none."""
    for plane in labels.planes:
        if axes_of(plane) == (axis,):
            return plane.reshape(-1)
    return None


def touching(labels: Labels, axes: set[int]) -> list[Tensor]:
    """The planes that vary along one of these axes."""
    return [p for p in labels.planes if axes & set(axes_of(p))]
