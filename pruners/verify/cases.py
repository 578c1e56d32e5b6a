"""The cases that a bundle's file is held against: inputs, and what must come out.

Beside the user's network and the pruned one there is one copy at a time, changed in place.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from ..errors import VerificationError
from ..graph import ChannelGraph, Kept
from ..run import call_arguments, run, training_batch
from ..slicing import corrected
from ..weight_transfer import slice_state
from . import oracle
from .case import Case
from .masking import masking
from .outputs import fits_double, measured, outputs_of, trains, varied


def cases(
    model: nn.Module,
    graph: ChannelGraph,
    kept: Kept,
    sliced: nn.Module,
    state: Mapping[str, Tensor] | None,
    example_input: Any,
) -> list[Case]:
    """The bundle's own weights against the live pruned network, and random weights against the zeroed original.

    ``sliced``: the live pruned network, which is used up; ``state``: its weights where they were trained on.
    """
    inputs = varied(example_input, 1)
    if state is not None:
        sliced.load_state_dict(state)
    own, double = measured(sliced, inputs, fits_double(model), lambda m: corrected(m, graph, kept))
    steps = training_batch(inputs)
    first = Case("the bundle's weights", inputs, own, None, double, steps, partial(trains, model, steps))
    return [first, _random_case(model, graph, kept, sliced, inputs, double)]


def _random_case(
    model: nn.Module, graph: ChannelGraph, kept: Kept, sliced: nn.Module, inputs: Any, double: bool
) -> Case:
    """Random weights make every channel matter; what is removed then shows."""
    other = _random_model(model, inputs)
    state = slice_state(other.state_dict(), graph, kept)
    if oracle.exact(graph, kept):
        oracle.zero(other, graph, kept)
        outputs = outputs_of(other, inputs, double, lambda m: masking(graph, kept))
        return Case("random weights, removed channels zeroed", inputs, outputs, state, double)
    del other  # before the pruned network grows
    sliced.load_state_dict(state)
    outputs = outputs_of(sliced, inputs, double, lambda m: corrected(m, graph, kept))
    return Case("random weights, statistics over the kept channels", inputs, outputs, state, double)


def _random_model(model: nn.Module, inputs: Any) -> nn.Module:
    """The original with random weights under which its output depends on its input: else a check says nothing."""
    other = copy.deepcopy(model).eval()
    for seed in range(8):
        oracle.randomise(other, seed)
        oracle.settle(other, partial(run, other, *call_arguments(training_batch(inputs))))
        first, second = (outputs_of(other, x, False) for x in (inputs, varied(inputs, 2)))
        if any(_differ(a, b) for a, b in zip(first, second, strict=True)):
            return other
    raise VerificationError("this network can't be checked: with random weights its output doesn't depend on its input")


def _differ(a: Tensor, b: Tensor) -> bool:
    scale = float(a.double().abs().max()) if a.numel() else 0.0
    return a.shape == b.shape and float((a.double() - b.double()).abs().max()) > 1e-6 * scale > 0
