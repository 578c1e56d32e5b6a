"""What the user named: the function or class that builds the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Entry:
    """The function or class the user named, and the arguments it was called with.

    ``name`` is what the generated file offers (``"resnet20"``). ``origin`` is how its header shows the source:
    ``"models/cifar/resnet.py, resnet20(num_classes=10)"``. ``dtype``: the type of its weights, which a function that
    is no class gives the network; None for float32. ``folder``: what a model with a configuration was opened from.
    """

    factory: Callable[..., nn.Module]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    origin: str = ""
    dtype: torch.dtype | None = None
    folder: Path | None = None


