"""The names that options take, without the code behind them; a test holds them against the registries."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from ...pruners.errors import UsageError

METRICS = (
    "angle", "angle_next_layer", "bn_scale", "distance", "distance_next_layer", "fpgm", "l1", "l2", "random",
    "reconstruction", "taylor",
)  # fmt: skip
WITH_KERNELS = ("angles_kernel", "distances_kernel")
RANKINGS = ("smallest", "largest", "random")
SEARCHES = ("bayesian", "global", "sensitivity", "uniform")
TRANSFERS = ("bn", "lstsq", "slice")


def check_name(what: str, name: str, known: Sequence[str]) -> None:
    """UsageError for a name that isn't known, with the closest one."""
    if name not in known:
        close = difflib.get_close_matches(name, known, 1, 0.4)
        guess = f", did you mean {close[0]!r}?" if close else ";"
        raise UsageError(f"unknown {what} {name!r}{guess} known are {', '.join(known)}")
