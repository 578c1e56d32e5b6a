"""How long the networks before and after really take, and how that compares with what was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..run import call_arguments, tree_map
from . import timing

_MISSED = 1.1


def latencies(
    models: Mapping[str, nn.Module], example_input: Any, device: torch.device | None = None, repeats: int = 31,
    seconds: float = float("inf"),
) -> dict[str, float]:  # fmt: skip
    """Median milliseconds of a forward pass of each model, in turns, over fewer when the seconds are over; the models
    are left where and in the mode they were."""
    here = device or torch.device("cpu")
    args, kwargs = call_arguments(
        tree_map(lambda leaf: leaf.to(here) if isinstance(leaf, Tensor) else leaf, example_input)
    )
    homes = {name: timing.device_of(model) for name, model in models.items()}
    try:
        runs = [timing.Run(name, model.to(here), args, kwargs) for name, model in models.items()]
        medians = timing.in_turns(runs, repeats, seconds)
    finally:
        for name, model in models.items():
            model.to(homes[name])
    return {name: round(1000 * taken, 4) for name, taken in zip(models, medians, strict=True)}


def verdict(
    target: float, predicted: float, ms: Mapping[str, float], device: torch.device, batch: int
) -> dict[str, Any]:
    """For ``summary.json``: fractions of the time of the whole network."""
    return {"target": target, "predicted": round(predicted, 4), "measured": round(ms["after"] / ms["before"], 4),
            "device": device.type, "batch": batch}  # fmt: skip


def verdict_text(found: Mapping[str, Any]) -> str:
    """One line, and a second one where the measured time is more than 10 % above what was asked for."""
    target, measured = found["target"], found["measured"]
    of = "one input" if found["batch"] == 1 else f"{found['batch']} inputs"
    line = (
        f"time of {of} on {found['device']}: at most {target:.1%} asked for, {found['predicted']:.1%} predicted, "
        f"{measured:.1%} measured"
    )
    if measured <= _MISSED * target:
        return line
    return (
        f"{line}\nthat is {100 * (measured / target - 1):.0f} % more than asked for: the machine was busy, now or when "
        "layers were measured (a new --latency-table measures anew), or they don't tell; ask for less"
    )
