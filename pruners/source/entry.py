"""What the source writer is given besides the model: where it came from, what to correct, what to say on top."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

UNSAVED = (
    "the buffer self.{} is not in the state_dict, is too large for a literal, and no expression of the constructor "
    "gives its values; register it with persistent=True"
)


@dataclass(frozen=True)
class Entry:
    """The function or class the user named, and the arguments it was called with.

    ``name`` is what the generated file offers (``"resnet20"``). ``origin`` is how its header shows the source:
    ``"models/cifar/resnet.py, resnet20(num_classes=10)"``.
    """

    factory: Callable[..., nn.Module]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    origin: str = ""


@dataclass(frozen=True)
class Header:
    """Ready strings for the docstring of the generated file; None leaves a line out."""

    title: str | None = None
    origin: str | None = None
    plan: str | None = None
    params_before: str | None = None
    params_after: str | None = None
    macs_before: str | None = None
    macs_after: str | None = None
    weights: str | None = None
