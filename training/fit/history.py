"""What a training reports."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .loop import Score


@dataclass(frozen=True)
class Epoch:
    """``number`` counts from 1; 0 is the network as it came, whose ``train_loss`` is 0. ``lr``: at the last step."""

    number: int
    train_loss: float
    val: Score
    lr: float = 0.0
    seconds: float = field(default=0.0, compare=False)

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> Epoch:
        """From what ``dataclasses.asdict`` made of it."""
        return cls(**{**saved, "val": Score(**saved["val"])})

    @property
    def rank(self) -> tuple[float, float]:
        """Of two epochs the one with the higher rank is better; a loss that is no number is worse than any other."""
        return (-1.0, 0.0) if math.isnan(self.val.loss) else (self.val.top1, -self.val.loss)


@dataclass(frozen=True)
class FitResult:
    """``best`` is the epoch whose weights the model holds now; ``stopped`` says why training ended early, if it did."""

    best: Epoch
    history: tuple[Epoch, ...]
    seconds: float
    stopped: str = ""


Watch = Callable[[Sequence[Epoch]], None]
"""Called after every epoch with all epochs so far, also with those of the run that is resumed."""
