"""How much may stay: the budget that was asked for, and what every width must keep. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

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

    Raises ``BudgetError`` unless 0 < value < 1.
    """

    kind: str
    value: float

    def __post_init__(self) -> None:
        if self.kind not in MEANING:
            raise BudgetError(f"unknown budget {self.kind!r}, known are {', '.join(MEANING)}")
        if not 0 < self.value < 1:
            raise BudgetError(
                f"--{self.kind} {self.value:g}: must lie between 0 and 1, both excluded; 0.5 {MEANING[self.kind][0]}"
            )

    @property
    def limit(self) -> float:
        """The largest fraction that may stay."""
        return 1 - self.value if self.kind == "ratio" else self.value


def check_layers(keep: float, timed: bool) -> None:
    """Raises BudgetError unless a share of the residual layers can be asked for. ``timed``: beside ``--latency``."""
    if not 0 < keep < 1:
        raise BudgetError(f"--layers {keep:g}: must lie between 0 and 1, both excluded; 0.75 keeps three quarters")
    if timed:
        raise BudgetError("--layers goes with --macs, --params or --ratio, not with --latency")


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
