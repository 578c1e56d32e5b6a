"""How the steps of a training are computed: in one go, or with mixed precision, in parts, by several processes."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ...pruners.errors import ConflictError
from ..data import WHOLE, Part, Split
from .loop import Score, evaluate, fitting
from .objective import Criterion

Amp = Literal["bf16", "fp16"]


@dataclass(frozen=True)
class Execution:
    """``amp``: matrix products in 16 bits, weights in 32. ``half``: everything in 16 bits, weights as well.

    ``accumulate``: a step's images go through the network in so many parts, one after the other, in as much less
    memory; batch norm sees a part at a time.
    """

    amp: Amp | None = None
    half: bool = False
    accumulate: int = 1


class Engine:
    """Takes the steps: here in one process and one pass, in the precision of the weights. ``part``: which part of every
    batch this process is to hand in."""

    part: Part = WHOLE

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.model, self.optimizer = model, optimizer

    def step(self, images: Tensor, labels: Tensor, objective: Criterion, seed: Callable[[int], None]) -> float:
        """One step down the gradient of the objective, which is returned. If it is not finite, no step is taken.

        ``seed`` is called before every pass with a number that no other pass of the step has.
        """
        seed(0)
        images = fitting(images, self.model)
        loss = objective(self.model, images, labels.to(images.device))
        value = loss.item()
        if math.isfinite(value):
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
        return value

    def evaluate(self, split: Split, batch_size: int) -> Score:
        return evaluate(self.model, split, batch_size=batch_size)

    def any(self, wish: bool) -> bool:
        """Whether some process has the wish."""
        return wish

    def state(self) -> Mapping[str, Any]:
        """What must be kept to go on, beside model and optimizer."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from what was kept."""

    def close(self) -> None:
        """There are no more steps."""


def device_for(execution: Execution, device: torch.device, optimizer: str) -> torch.device:
    """Where this process computes; UsageError for a precision that device, optimizer or options don't allow."""
    if execution.half and optimizer == "adam":
        raise ConflictError("--half leaves Adam's moments no room: add --optimizer sgd, or take --amp bf16")
    if execution.amp and execution.half:
        raise ConflictError("--amp keeps weights in 32 bits, --half does not: give one of them")
    if execution.amp == "fp16" and device.type != "cuda":
        raise ConflictError("--amp fp16 needs a GPU: take --amp bf16")
    if processes() > 1 and device.type == "cuda":
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return device


def processes() -> int:
    """How many processes torchrun started to share this work."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this process is the one that writes and speaks."""
    return os.environ.get("RANK", "0") == "0"
