"""Backward elimination: which inputs a layer can do without, when the weights of the others may make up for them.

With C the inputs' covariance, W the weights and H = inv(C), taking away the inputs b costs tr(W_b inv(H_bb) W_b') of
the outputs' squares at best, and leaves the best weights W - W_b inv(H_bb) H_b: and the inverse
H - H_:b inv(H_bb) H_b:.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

_STILL = 1e-30  # outputs that vary less than this do not vary


class System(Protocol):
    """A layer, or one convolution group of it; ``members``: the groups of the width that it reads."""

    members: Tensor

    def prices(self) -> Tensor:
        """What taking each member away would cost, as a part of the outputs' squares."""
        ...

    def remove(self, group: int) -> None: ...


class Independent:
    """Inputs that say nothing of each other."""

    def __init__(self, power: Tensor, weight: Tensor, places: Tensor, members: Tensor) -> None:
        squares = (weight.square() * power).sum(0)
        self.members = members
        self._prices = squares[places].sum(1) / squares.sum().clamp_min(1e-300)

    def prices(self) -> Tensor:
        return self._prices

    def remove(self, group: int) -> None:
        """What the others cost stays as it was."""


class Elimination:
    """One linear system. ``places``: (members, m) inputs that go with each of ``members``, groups of a width."""

    def __init__(self, covariance: Tensor, weight: Tensor, places: Tensor, members: Tensor, ridge: float) -> None:
        alike = torch.eye(len(covariance), dtype=torch.float64, device=covariance.device)
        if not float(((weight @ covariance) * weight).sum()) > _STILL:
            covariance = alike  # nothing moves on these images (or there is but one): the weights decide
        system = covariance + ridge * covariance.diagonal().mean() * alike
        self._scale = float(((weight @ covariance) * weight).sum().clamp_min(1e-300))
        self._inverse, self._weight, self._places = torch.linalg.inv(system), weight.clone(), places
        self._row_of = {int(group): row for row, group in enumerate(members)}
        self.members = members

    def prices(self) -> Tensor:
        """Meaningless for members that are gone."""
        blocks = self._inverse[self._places[:, :, None], self._places[:, None, :]]
        parts = self._weight[:, self._places].movedim(1, 0)  # members, outputs, m
        return (torch.linalg.solve_ex(blocks, parts.mT)[0] * parts.mT).sum((1, 2)) / self._scale

    def remove(self, group: int) -> None:
        if group not in self._row_of:
            return
        row = self._row_of[group]
        b = self._places[row]
        left = torch.linalg.solve(self._inverse[b][:, b], self._inverse[b])  # inv(H_bb) H_b:
        self._weight -= self._weight[:, b] @ left
        self._inverse -= self._inverse[:, b] @ left
        self._weight[:, b] = 0
        self._inverse[b], self._inverse[:, b] = 0, 0
        self._inverse[b, b] = 1  # keeps its block solvable; its price is never asked for again


def eliminate(systems: Sequence[System], block_of: Tensor) -> Tensor:
    """For every group what is lost, over all systems, once it and all groups before it are gone.

    Groups go where they cost least, from the blocks in turn.
    """
    left = torch.ones(len(block_of), dtype=torch.bool)
    lost, scores = 0.0, torch.zeros(len(block_of), dtype=torch.float64)
    while bool(left.any()):
        price = torch.zeros(len(block_of), dtype=torch.float64)
        for system in systems:
            price.index_add_(0, system.members, system.prices().cpu())
        fullest = torch.bincount(block_of[left], minlength=int(block_of.max()) + 1)
        allowed = left & (fullest[block_of] == fullest.max())
        chosen = int(price.masked_fill(~allowed, float("inf")).argmin())
        lost += max(0.0, float(price[chosen]))
        scores[chosen], left[chosen] = lost, False
        for system in systems:
            system.remove(chosen)
    return scores
