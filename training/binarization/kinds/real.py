"""Real: torch's own layers, the starting point of every route to fewer bits."""

from __future__ import annotations

from torch import nn

from .registry import FULL, Kind, register

REAL = register(
    Kind("Real", nn.Conv2d, nn.Linear, nn.Conv2d, nn.Linear, FULL, FULL, activation=nn.ReLU),
)
