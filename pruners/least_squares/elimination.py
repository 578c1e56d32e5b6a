"""Backward elimination: which inputs a layer can do without, when the weights of the others may make up for them.

With C the inputs' covariance, W the weights and H = inv(C), taking away the inputs b costs tr(W_b inv(H_bb) W_b') of
the outputs' squares at best, and leaves the best weights W - W_b inv(H_bb) H_b: and the inverse
H - H_:b inv(H_bb) H_b:.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

_STILL = 1e-30  # outputs that vary less than this do not vary
_LARGE, _PARTS = 1024, 16


class System(Protocol):
    """A layer, or one convolution group of it; ``members``: the groups of the width that it reads and that are left."""

    members: Tensor
    inputs: int

    def prices(self) -> Tensor:
        """What taking each member away would cost, as a part of the outputs' squares."""
        ...

    def remove(self, groups: Tensor) -> None: ...

    def part(self, groups: Tensor) -> System:
        """What prices and removals among these groups depend on."""
        ...


class Independent:
    """Inputs that say nothing of each other."""

    def __init__(self, power: Tensor, weight: Tensor, places: Tensor, members: Tensor) -> None:
        squares = (weight.square() * power).sum(0)
        self.members, self.inputs = members, 1
        self._prices = squares[places].sum(1) / squares.sum().clamp_min(1e-300)

    def prices(self) -> Tensor:
        return self._prices

    def remove(self, groups: Tensor) -> None:
        """What the others cost stays as it was."""
        stay = ~torch.isin(self.members, groups)
        self.members, self._prices = self.members[stay], self._prices[stay.to(self._prices.device)]

    def part(self, groups: Tensor) -> Independent:
        found = copy.copy(self)
        found.remove(self.members[~torch.isin(self.members, groups)])
        return found


class Elimination:
    """One linear system. ``places``: (members, m) inputs that go with each of ``members``, groups of a width."""

    def __init__(self, covariance: Tensor, weight: Tensor, places: Tensor, members: Tensor, ridge: float) -> None:
        alike = torch.eye(len(covariance), dtype=torch.float64, device=covariance.device)
        if not float(((weight @ covariance) * weight).sum()) > _STILL:
            covariance = alike  # nothing moves on these images (or there is but one): the weights decide
        system = covariance + ridge * covariance.diagonal().mean() * alike
        self._scale = float(((weight @ covariance) * weight).sum().clamp_min(1e-300))
        self._inverse, self._weight, self._places = torch.linalg.inv(system), weight, places
        self.members, self.inputs = members, len(covariance)

    def prices(self) -> Tensor:
        blocks = self._inverse[self._places[:, :, None], self._places[:, None, :]]
        parts = self._weight[:, self._places].movedim(1, 0)  # members, outputs, m
        return (torch.linalg.solve_ex(blocks, parts.mT)[0] * parts.mT).sum((1, 2)) / self._scale

    def remove(self, groups: Tensor) -> None:
        """The system without what goes with these groups."""
        gone = torch.isin(self.members, groups)
        if not bool(gone.any()):
            return
        rows = gone.to(self._places.device)
        b = self._places[rows].flatten()
        stays = torch.ones(len(self._inverse), dtype=torch.bool, device=b.device)
        stays[b] = False
        across = self._inverse[b][:, stays]
        left = torch.linalg.solve(self._inverse[b][:, b], across)  # inv(H_bb) H_b:
        self._weight = self._weight[:, stays] - self._weight[:, b] @ left
        self._inverse = self._inverse[stays][:, stays] - across.mT @ left
        self._places = (stays.cumsum(0) - 1)[self._places[~rows]]
        self.members = self.members[~gone]

    def part(self, groups: Tensor) -> Elimination:
        found = copy.copy(self)
        chosen = torch.isin(self.members, groups)
        places = self._places[chosen.to(self._places.device)]
        inner = places.flatten()
        found._inverse, found._weight = self._inverse[inner][:, inner], self._weight[:, inner]
        found._places = torch.arange(len(inner), device=inner.device).view(places.shape)
        found.members = self.members[chosen]
        return found


def eliminate(systems: Sequence[System], block_of: Tensor) -> Tensor:
    """For every group what is lost, over all systems, once it and all groups before it are gone.

    Groups go where they cost least, from the blocks in turn. Of a width that large systems read a sixteenth at a time
    goes, one after the other among the eighth that costs least by then.
    """
    left = torch.ones(len(block_of), dtype=torch.bool)
    lost, scores = 0.0, torch.zeros(len(block_of), dtype=torch.float64)
    large = max(s.inputs for s in systems) > _LARGE and not bool(block_of.any())
    while bool(left.any()):
        number = int(left.sum()) // _PARTS if large else 1
        looked_at, candidates = systems, left
        if number > 1:
            cheapest = _prices(systems, len(left)).masked_fill(~left, float("inf")).argsort()[: 2 * number]
            looked_at = [s.part(cheapest) for s in systems]
            candidates = torch.zeros_like(left).index_fill_(0, cheapest, True)
        gone = []
        for _ in range(max(number, 1)):
            price = _prices(looked_at, len(left))
            fullest = torch.bincount(block_of[candidates], minlength=int(block_of.max()) + 1)
            allowed = candidates & (fullest[block_of] == fullest.max())
            chosen = price.masked_fill(~allowed, float("inf")).argmin()
            lost += max(0.0, float(price[chosen]))
            scores[chosen], candidates[chosen] = lost, False
            gone.append(chosen)
            for system in looked_at:
                system.remove(chosen)
        left[torch.stack(gone)] = False
        if looked_at is not systems:
            for system in systems:
                system.remove(torch.stack(gone))
    return scores


def _prices(systems: Sequence[System], groups: int) -> Tensor:
    price = torch.zeros(groups, dtype=torch.float64)
    for system in systems:
        price.index_add_(0, system.members, system.prices().cpu())
    return price
