"""What the fresh process gets: inputs, and the outputs they must give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Case:
    """Inputs and the outputs they must give; ``state`` None means the bundle's own weights.

    ``double``: in float64; all cases of one file are, or none. ``train_inputs``: for a step in training mode;
    ``trains`` is asked where that fails: does it work in the original?
    """

    name: str
    inputs: Any
    outputs: tuple[Tensor, ...]
    state: Mapping[str, Tensor] | None = None
    double: bool = True
    train_inputs: Any = None
    trains: Callable[[], bool] = lambda: True
