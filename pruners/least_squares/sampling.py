"""Which positions of which images a layer is fitted to: drawn by a seed, the same in both networks."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_HELD_OUT = 8  # every eighth image is for the decision whether a fit is taken


@dataclass(frozen=True)
class Look:
    """``rows`` number positions along a layer's output; ``held``: which of them are not fitted to at first."""

    rows: Tensor
    held: Tensor


@dataclass(frozen=True)
class Sampler:
    """``sizes``: images in each batch."""

    sizes: Sequence[int]
    seed: int = 0

    def look(self, layer: str, batch: int, call: int, total: int, limit: float) -> Look:
        """Of ``total`` positions in a call of a layer on a batch; ``limit``: how many on all batches."""
        share = math.ceil(limit * self.sizes[batch] / sum(self.sizes))
        generator = torch.Generator().manual_seed(zlib.crc32(f"{self.seed} {layer} {batch} {call}".encode()))
        rows = torch.randperm(total, generator=generator)[:share].sort().values
        images = rows * self.sizes[batch] // total + sum(self.sizes[:batch])
        return Look(rows, images % _HELD_OUT == _HELD_OUT - 1)
