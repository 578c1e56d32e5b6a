"""How the estimators of IR-Net and IE-Net sharpen while training goes on.

Layers hold the two numbers as plain attributes ``k`` and ``t``, so the layers of written files are found as well.
"""

from __future__ import annotations

from typing import Any

from torch import nn


def sharpness(done: float, low: float = 0.1, high: float = 10.0) -> tuple[float, float]:
    """(k, t) when the share ``done`` (0..1) of training is over: t = low (high / low)^done, k = max(1/t, 1).

    Reference: Qin et al. 2020, IR-Net, eq. 12.
    """
    t = low * (high / low) ** done
    return max(1 / t, 1.0), t


def sharpen(model: nn.Module, done: float, low: float = 0.1, high: float = 10.0) -> None:
    """Sets ``k`` and ``t`` of every layer that has them."""
    k, t = sharpness(done, low, high)
    layer: Any
    for layer in (m for m in model.modules() if hasattr(m, "k") and hasattr(m, "t")):
        layer.k, layer.t = k, t
