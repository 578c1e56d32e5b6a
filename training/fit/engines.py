"""Which engine takes the steps."""

from __future__ import annotations

import torch
from torch import nn

from ...pruners.errors import OptionError
from .execution import Engine, Execution, processes


def engine_for(execution: Execution, model: nn.Module, optimizer: torch.optim.Optimizer, batch_size: int) -> Engine:
    """UsageError if the machine can't, or if ``batch_size`` images are too few for all parts and processes."""
    if not (execution.amp or execution.accumulate > 1 or processes() > 1):
        return Engine(model, optimizer)
    from .accelerated import Accelerated

    passes = execution.accumulate * processes()
    if batch_size < passes:
        raise OptionError(f"a step of {batch_size} images can't be shared by {passes} passes: raise --batch-size")
    return Accelerated(execution, model, optimizer)
