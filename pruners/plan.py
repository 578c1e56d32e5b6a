"""The pruning plan: for each width the kept channels, and where the plan comes from. Frozen; JSON in, JSON out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SCHEMA = 1


@dataclass(frozen=True)
class WidthPlan:
    """``kept``: strictly increasing group indices out of ``size``."""

    size: int
    kept: tuple[int, ...]


@dataclass(frozen=True)
class PruningPlan:
    """Width name -> kept groups. ``provenance`` is a flat JSON object: source and weights hash, seed, versions,
    metric, strategy, the model's spec and arguments, the input shape."""

    widths: Mapping[str, WidthPlan]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kept(self) -> dict[str, tuple[int, ...]]:
        return {name: w.kept for name, w in self.widths.items()}
