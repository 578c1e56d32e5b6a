"""What a least-squares fit needs to know of its samples, summed up batch by batch.

A sample is a row of a layer's inputs ``x`` (groups, inputs) and what the layer's output lacks there, ``y`` (groups,
outputs); a convolution group is a system of its own. ``Gram`` keeps sums, so its size doesn't depend on the number of
samples; ``Rows`` keeps the samples, which is smaller where there are fewer samples than unknowns.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

_AT_ONCE = 4096  # samples in one product of the layer's own precision, before it is added in float64


@dataclass
class Gram:
    """Sums over samples, in float64; one entry of the first axis for each group."""

    xx: Tensor  # (groups, inputs, inputs)
    xy: Tensor  # (groups, inputs, outputs)
    x: Tensor
    y: Tensor
    yy: Tensor  # (groups, outputs)
    count: int = 0

    @classmethod
    def empty(cls, groups: int, inputs: int, outputs: int, device: torch.device | None = None) -> Gram:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(groups, *shape, dtype=torch.float64, device=device)

        return cls(zeros(inputs, inputs), zeros(inputs, outputs), zeros(inputs), zeros(outputs), zeros(outputs))

    def add(self, x: Tensor, y: Tensor) -> None:
        """``x``: (samples, groups, inputs), ``y``: (samples, groups, outputs)."""
        for rows, wanted in zip(x.split(_AT_ONCE), y.split(_AT_ONCE), strict=True):
            left, right = rows.transpose(0, 1), wanted.transpose(0, 1)  # groups first
            self.xx += (left.mT @ left).double()
            self.xy += (left.mT @ right).double()
            self.x += rows.double().sum(0)
            self.y += wanted.double().sum(0)
            self.yy += wanted.double().square().sum(0)
        self.count += len(x)

    def joined(self, other: Gram) -> Gram:
        """The sums over both sets of samples."""
        sums = ("xx", "xy", "x", "y", "yy", "count")
        return Gram(*(getattr(self, name) + getattr(other, name) for name in sums))

    def loss(self, change: Tensor, shift: Tensor) -> float:
        """The sum of squares of y - (change x + shift); ``change``: (groups, outputs, inputs), ``shift``: (groups,
        outputs)."""
        square = (change @ self.xx * change).sum() + self.count * shift.square().sum()
        square += 2 * (shift * (change @ self.x[..., None]).squeeze(-1)).sum()
        return max(0.0, float(self.yy.sum() - 2 * (change.mT * self.xy).sum() - 2 * (shift * self.y).sum() + square))


@dataclass
class Rows:
    """The samples themselves, in the precision they came in."""

    parts: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    count: int = 0

    def add(self, x: Tensor, y: Tensor) -> None:
        self.parts.append((x, y))
        self.count += len(x)

    def joined(self, other: Rows) -> Rows:
        return Rows(self.parts + other.parts, self.count + other.count)

    def all(self) -> tuple[Tensor, Tensor]:
        """(groups, samples, inputs) and (groups, samples, outputs), float64."""
        x, y = (torch.cat(list(column)).double().transpose(0, 1) for column in zip(*self.parts, strict=True))
        return x, y

    def loss(self, change: Tensor, shift: Tensor) -> float:
        return sum(
            float((y.double().transpose(0, 1) - x.double().transpose(0, 1) @ change.mT - shift[:, None]).square().sum())
            for x, y in self.parts
        )


Samples = Gram | Rows
