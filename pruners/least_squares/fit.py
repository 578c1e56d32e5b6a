"""Fitting one layer to its samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .gram import Gram, Rows, Samples
from .linear_layers import as_system, unknowns
from .solve import Change, solved

PLENTY = 4  # samples for each unknown, from which on the ridge isn't looked for
_STRONGER = (1, 10, 100, 1000)


@dataclass(frozen=True)
class Fitted:
    """How one layer came out. ``before`` and ``after``: the mean square of what its output lacks, as a part of the
    variance of what it should give. ``taken`` is False where the fit was no better on images it had not seen;
    ``summed``: it was fitted to a sum. ``condition``: see ``Change``."""

    layer: str
    before: float
    after: float
    samples: int
    unknowns: int
    condition: float
    taken: bool
    summed: bool


class System:
    """The samples of one layer. ``few``: there are fewer of them than inputs."""

    def __init__(self, layer: Any, few: bool) -> None:
        self.layer = layer
        groups, outputs, inputs = as_system(layer, layer.weight).shape
        self._used, self._held = (
            Rows() if few else Gram.empty(groups, inputs, outputs, layer.weight.device) for _ in range(2)
        )
        self._count, self._sum, self._square = 0, torch.zeros(()), torch.zeros(())

    def add(self, x: Tensor, target: Tensor, held: Tensor) -> None:
        """``x``: (samples, groups, inputs); ``target``: (samples, outputs); ``held``: which samples are held back."""
        weight = as_system(self.layer, self.layer.weight.detach())
        target = target.view(len(x), *weight.shape[:2])
        given = torch.einsum("ngk,gmk->ngm", x, weight)
        lacking = target - given - (0 if self.layer.bias is None else self.layer.bias.detach().view(weight.shape[:2]))
        for samples, chosen in ((self._used, ~held), (self._held, held)):
            if bool(chosen.any()):
                samples.add(x[chosen], lacking[chosen])
        exact = target.double()
        self._count += len(x)
        self._sum, self._square = self._sum.to(exact) + exact.sum(0), self._square.to(exact) + exact.square().sum(0)

    def fit(self, ridge: float, shifted: bool) -> tuple[Change | None, Fitted]:
        """The change of the layer, or None where it is better left alone, and how good it is, without names.

        ``shifted``: a constant can be added to its output.
        """
        whole = _joined(self._used, self._held)
        none = _nothing(self.layer)
        before, after, change = whole.loss(none.weight, none.shift), float("inf"), none
        best = self._best(ridge, shifted, none) if before else None
        if best is not None:
            change = solved(whole, ridge=best, shifted=shifted)
            after = whole.loss(change.weight, change.shift)
        taken = after < before
        variance = max(float((self._square - self._sum.square() / self._count).sum()), 1e-300)
        how = Fitted("", before / variance, (after if taken else before) / variance, whole.count,
                     unknowns(self.layer), change.condition, taken, False)  # fmt: skip
        return (change if taken else None), how

    def _best(self, ridge: float, shifted: bool, none: Change) -> float | None:
        """The ridge, or where samples are scarce a stronger one, that does best on samples it has not seen; None where
        none does better than no change."""
        if not (self._used.count and self._held.count):
            return ridge
        scarce = self._used.count < PLENTY * unknowns(self.layer) and ridge > 0
        losses = {}
        for strength in _STRONGER if scarce else (1,):
            trial = solved(self._used, ridge=strength * ridge, shifted=shifted)
            losses[strength * ridge] = self._held.loss(trial.weight, trial.shift)
        best = min(losses, key=lambda r: losses[r])
        return best if losses[best] <= self._held.loss(none.weight, none.shift) else None


def apply(layer: Any, change: Change, mean: Tensor | None) -> None:
    """``mean``: the running mean that takes the constant where the layer has no bias."""
    with torch.no_grad():
        layer.weight.add_(change.weight.reshape(layer.weight.shape).to(layer.weight.dtype))
        shift = change.shift.reshape(-1)
        if layer.bias is not None:
            layer.bias.add_(shift.to(layer.bias.dtype))
        elif mean is not None:
            mean.sub_(shift.to(mean.dtype))


def _nothing(layer: Any) -> Change:
    weight = torch.zeros_like(as_system(layer, layer.weight.detach()), dtype=torch.float64)
    return Change(weight, weight[..., 0].clone(), 1.0)


def _joined(first: Samples, second: Samples) -> Samples:
    if isinstance(first, Gram) and isinstance(second, Gram):
        return first.joined(second)
    assert isinstance(first, Rows) and isinstance(second, Rows)
    return first.joined(second)
