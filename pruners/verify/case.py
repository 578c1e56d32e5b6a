"""What the fresh process gets: inputs, and the outputs they must give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

State = Mapping[str, Tensor | Callable[[], Tensor]]
TOLERANCE = {True: 1e-9, False: 1e-4}  # relative to the outputs' scale: float64, float32


@dataclass(frozen=True)
class Case:
    """Inputs and the outputs they must give (None: any); ``state`` None means the bundle's own weights.

    ``training``: in training mode. ``even_draws``: every draw of random numbers gives one value in all its elements.
    ``tolerance``: the largest difference, relative to the largest absolute output. ``method``: what is called, if not
    the network itself. ``double``: in float64; all cases of one file are, or none. ``train_inputs``: for a step in
    training mode; ``trains`` is asked where that fails: does it work in the original? ``streamed``: weights come and
    go, in the fresh process, too; then ``state`` says how they are made.
    """

    name: str
    inputs: Any
    outputs: tuple[Tensor, ...] | None
    state: State | None = None
    double: bool = True
    train_inputs: Any = None
    trains: Callable[[], bool] = lambda: True
    training: bool = False
    even_draws: bool = False
    tolerance: float | None = None
    method: str = ""
    streamed: bool = False

    @property
    def allowed(self) -> float:
        """``tolerance``, or what its precision allows."""
        return TOLERANCE[self.double] if self.tolerance is None else self.tolerance
