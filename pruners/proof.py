"""The cases that a bundle's file is held against: inputs, and what must come out."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy.typing as npt
from torch import Tensor, nn

from pruners import oracle
from pruners.channel_graph import ChannelGraph
from pruners.errors import VerificationError
from pruners.frames import run
from pruners.rehearsal import corrected
from pruners.running import call_arguments
from pruners.verify import Case, outputs_of, runs_in_double, training_inputs, varied
from pruners.weight_transfer import slice_state

Kept = Mapping[str, npt.ArrayLike]


def cases(
    model: nn.Module,
    graph: ChannelGraph,
    kept: Kept,
    sliced: nn.Module,
    state: Mapping[str, Tensor] | None,
    example_input: Any,
) -> list[Case]:
    """The bundle's own weights against the live pruned network, and random weights against the zeroed original.

    ``sliced``: the live pruned network; ``state``: its weights where they were trained on.
    """
    inputs = varied(example_input, 1)
    double = runs_in_double(model, inputs)
    live = copy.deepcopy(sliced)
    if state is not None:
        live.load_state_dict(state)
    own = outputs_of(live, inputs, double, lambda m: corrected(m, graph, kept))
    steps = training_inputs(model, inputs)
    first = Case("the bundle's weights", inputs, own, None, double, steps)
    other = _random_model(model, inputs, steps)
    return [first, _random_case(other, graph, kept, live, inputs, double)]


def _random_case(
    other: nn.Module, graph: ChannelGraph, kept: Kept, live: nn.Module, inputs: Any, double: bool
) -> Case:
    """Random weights make every channel matter; what is removed then shows."""
    state = {k: v.clone() for k, v in slice_state(other.state_dict(), graph, kept).items()}
    if oracle.exact(graph, kept):
        outputs = outputs_of(oracle.zeroed(other, graph, kept), inputs, double)
        return Case("random weights, removed channels zeroed", inputs, outputs, state, double)
    live.load_state_dict(state)
    outputs = outputs_of(live, inputs, double, lambda m: corrected(m, graph, kept))
    return Case("random weights, statistics over the kept channels", inputs, outputs, state, double)


def _random_model(model: nn.Module, inputs: Any, steps: Any) -> nn.Module:
    """The original with random weights under which its output depends on its input: else a check says nothing.

    ``steps``: a batch to take batch-norm statistics from, None where the network can't be trained.
    """
    other = copy.deepcopy(model)
    for seed in range(8):
        oracle.randomise(other, seed)
        if steps is not None:
            oracle.settle(other.eval(), partial(run, other, *call_arguments(steps)))
        first, second = (outputs_of(other, x, False) for x in (inputs, varied(inputs, 2)))
        if any(_differ(a, b) for a, b in zip(first, second, strict=True)):
            return other
    raise VerificationError("this network can't be checked: with random weights its output doesn't depend on its input")


def _differ(a: Tensor, b: Tensor) -> bool:
    scale = float(a.double().abs().max()) if a.numel() else 0.0
    return a.shape == b.shape and float((a.double() - b.double()).abs().max()) > 1e-6 * scale > 0
