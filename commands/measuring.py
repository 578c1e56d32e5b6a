"""How long one input takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from pruners.running import call_arguments


def latencies(models: Mapping[str, nn.Module], example_input: Any, repeats: int = 30) -> dict[str, float]:
    """Median milliseconds of a forward pass of each model; modes are left as they were.

    The models take turns, so that whatever else the machine does meets all of them.
    """
    args, kwargs = call_arguments(example_input)
    modes = {name: model.training for name, model in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    try:
        with torch.no_grad():
            for _ in range(repeats + 3):
                for name, model in models.items():
                    model.eval()
                    started = time.perf_counter()
                    model(*args, **kwargs)
                    seconds[name].append(time.perf_counter() - started)
    finally:
        for name, model in models.items():
            model.train(modes[name])
    return {name: round(1000 * statistics.median(s[3:]), 4) for name, s in seconds.items()}
