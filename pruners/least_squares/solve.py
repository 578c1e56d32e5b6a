"""The change of a layer's weights that makes its output lack least.

The unknown is the change and not the weight: the ridge, relative to the mean square of the inputs, then pulls towards
the weights there are, not towards zero. With a place to put a constant into, means are left out of the system.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .gram import Gram, Rows, Samples

RIDGE = 1e-3


@dataclass(frozen=True)
class Change:
    """To add to the weight (groups, outputs, inputs) and to the output (groups, outputs); float64.

    ``condition``: an estimate of the system's condition number from below, with its ridge; infinite where it was
    singular and what can't be told apart was left as it is.
    """

    weight: Tensor
    shift: Tensor
    condition: float


def solved(samples: Samples, *, ridge: float = RIDGE, shifted: bool = True) -> Change:
    """The least-squares solution; ``shifted``: with a constant."""
    weight, condition = (_dual if isinstance(samples, Rows) else _primal)(samples, ridge, shifted)
    mean_x, mean_y = _means(samples)
    shift = mean_y - (weight @ mean_x[..., None]).squeeze(-1) if shifted else torch.zeros_like(mean_y)
    return Change(weight, shift, condition)


def _means(samples: Samples) -> tuple[Tensor, Tensor]:
    if isinstance(samples, Gram):
        return samples.x / samples.count, samples.y / samples.count
    x, y = samples.all()
    return x.mean(1), y.mean(1)


def _primal(samples: Samples, ridge: float, shifted: bool) -> tuple[Tensor, float]:
    assert isinstance(samples, Gram)
    system, right = samples.xx.clone(), samples.xy
    if shifted:
        system -= samples.x[..., None] * samples.x[:, None] / samples.count
        right = right - samples.x[..., None] * samples.y[:, None] / samples.count
    level = system.diagonal(dim1=-2, dim2=-1).mean(-1)
    found, condition = _of_system(system, right, ridge * level)
    return found.mT, condition


def _dual(samples: Samples, ridge: float, shifted: bool) -> tuple[Tensor, float]:
    """As many unknowns as samples: the change is a combination of the inputs that were seen."""
    assert isinstance(samples, Rows)
    x, y = samples.all()
    if shifted:
        x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
    level = x.square().sum((1, 2)) / x.shape[2]
    found, condition = _of_system(x @ x.mT, y, ridge * level)
    return found.mT @ x, condition


def _of_system(system: Tensor, right: Tensor, ridge: Tensor) -> tuple[Tensor, float]:
    system.diagonal(dim1=-2, dim2=-1).add_(ridge[:, None])
    factor, failed = torch.linalg.cholesky_ex(system)
    diagonal = factor.diagonal(dim1=-2, dim2=-1)
    least, most = diagonal.amin(-1), diagonal.amax(-1)
    if not bool(failed.any()) and bool((least > 1e-7 * most).all()):
        return torch.cholesky_solve(right, factor), float((most / least).square().max())
    values, vectors = torch.linalg.eigh(system)
    small = values <= values.amax(-1, keepdim=True).clamp_min(0) * system.shape[-1] * 1e-15
    inverse = torch.where(small, 0.0, 1 / torch.where(small, 1.0, values))
    return vectors @ (inverse[..., None] * (vectors.mT @ right)), float("inf")
