"""Cases of the examples beside the first: the file is held against the live pruned network.

What operations read without weights is known of the first example alone, so the original can't stand for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from typing import Any

from torch import nn

from ..graph import ChannelGraph, Kept
from ..run import batch_size
from ..slicing import corrected
from .case import Case, State
from .outputs import measured, varied
from .references import Live, Setting
from .sizes import training_inputs


def further_cases(
    graph: ChannelGraph, kept: Kept, live: nn.Module, examples: Sequence[Any], double: bool, runs: bool
) -> list[Case]:
    """The bundle's own weights, which the live pruned network has."""
    found: list[Case] = []
    for number, example in enumerate(examples[1:], 1):
        inputs = varied(example, 1)
        around = nullcontext if runs else partial(_corrected, graph, kept, number)
        outputs, doubled = measured(live, inputs, double, around)
        if doubled == double:
            found.append(Case(f"example {number + 1}", inputs, outputs, None, double))
    return found


def _corrected(graph: ChannelGraph, kept: Kept, number: int, model: nn.Module) -> Any:
    return corrected(model, graph, kept, number)


def further_random_cases(
    live: Live, examples: Sequence[Any], state: State, loose: float | None
) -> Iterator[Case]:
    """Random weights, which the live pruned network has, in evaluation and, where it runs, in training."""
    for number, example in enumerate(examples[1:], 1):
        inputs, name = varied(example, 1, live.model), f", example {number + 1}"
        plain = Setting(name, inputs, usual=True, example=number)
        yield _as_in_memory(plain, live, state, None)
        with suppress(Exception):  # where it can't be trained, the file need not either
            usual = batch_size(inputs) > 1
            trained = Setting(f"{name}, in training", training_inputs(inputs), True, usual, example=number)
            yield _as_in_memory(trained, live, state, loose)


def _as_in_memory(setting: Setting, live: Live, state: State, tolerance: float | None) -> Case:
    return Case(
        f"random weights{setting.name}, as in memory", setting.inputs, live.outputs(setting), state, live.double,
        training=setting.training, tolerance=tolerance,
    )  # fmt: skip
