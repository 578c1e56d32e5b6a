"""How long one input takes."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from torch import nn


def latency_ms(model: nn.Module, example_input: Any, repeats: int = 30) -> float:
    """Median milliseconds of a forward pass on the CPU, after a warm-up; the model's mode is left as it was."""
    inputs = example_input if isinstance(example_input, tuple) else (example_input,)
    was_training = model.training
    model.eval()
    seconds = []
    try:
        with torch.no_grad():
            for _ in range(repeats + 3):
                started = time.perf_counter()
                model(*inputs)
                seconds.append(time.perf_counter() - started)
    finally:
        model.train(was_training)
    return round(1000 * statistics.median(seconds[3:]), 4)
