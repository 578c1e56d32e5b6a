"""How much may stay: the budget that was asked for, and what every width must keep. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .errors import BudgetError, OptionError

MEANING = {
    "macs": ("keeps half of the MACs", "of the MACs"),
    "params": ("keeps half of the parameters", "of the parameters"),
    "ratio": ("removes half of the channels", "of the channels"),
    "latency": ("keeps half of the time of one input", "of the time"),
}


@dataclass(frozen=True)
class Budget:
    """``macs``, ``params``, ``latency``: the fraction to keep at most; ``ratio``: the fraction of channels to remove.

    ``parts``: words that name layers, and the fraction of theirs to remove instead, 0 for none; of several that name a
    layer the last counts. With parts, ``value`` may be 0: then other layers stay whole. Raises ``BudgetError`` for
    other values than 0 < value < 1.
    """

    kind: str
    value: float
    parts: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in MEANING:
            raise BudgetError(f"unknown budget {self.kind!r}, known are {', '.join(MEANING)}")
        for word, share in self.parts:
            if not 0 <= share < 1:
                raise BudgetError(f"--ratio {word}={share:g}: must lie between 0 and 1; 0.5 removes half, 0 none")
        if not 0 < self.value < 1 and not (self.parts and self.value == 0):
            raise BudgetError(
                f"--{self.kind} {self.value:g}: must lie between 0 and 1, both excluded; 0.5 {MEANING[self.kind][0]}"
            )

    @property
    def facts(self) -> dict[str, Any]:
        """As a plan notes it."""
        return {self.kind: self.value, **({"ratios": dict(self.parts)} if self.parts else {})}

    @property
    def limit(self) -> float:
        """The largest fraction that may stay."""
        return 1 - self.value if self.kind == "ratio" else self.value


def check_layers(keep: float, timed: bool, option: str = "--layers") -> None:
    """Raises BudgetError unless a share of the residual layers, or of experts, can be asked for. ``timed``: beside
    ``--latency``."""
    if not 0 < keep < 1:
        raise BudgetError(f"{option} {keep:g}: must lie between 0 and 1, both excluded; 0.75 keeps three quarters")
    if timed:
        raise BudgetError(f"{option} goes with --macs, --params or --ratio, not with --latency")


@dataclass(frozen=True)
class Limits:
    """What every width must keep: at least ``min_channels`` and ``min_fraction`` of its channels (whole if smaller),
    and a multiple of ``round_to`` unless nothing is removed."""

    min_channels: int = 2
    min_fraction: float = 0.0
    round_to: int = 1

    def __post_init__(self) -> None:
        if self.round_to < 1 or self.min_channels < 1:
            raise OptionError("--round-to and the minimum of channels must be 1 or more")
        if not 0 <= self.min_fraction < 1:
            raise OptionError(f"the minimum fraction of channels must be in [0, 1), not {self.min_fraction}")
