"""Whether a network made in another way is the pruned one, before anything is decided."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from ..errors import VerificationError
from ..graph import ChannelGraph, Kept
from ..run import describe, isolated, state_of, take
from ..weight_transfer import slice_state
from .case import TOLERANCE
from .cases import random_model
from .outputs import outputs_of, varied
from .references import Outputs, Setting, Whole

_SMALLEST = 1e-6


def differs(
    model: nn.Module, graph: ChannelGraph | None, kept: Kept, made: Callable[[], nn.Module], example: Any,
    double: bool = False,
) -> str:  # fmt: skip
    """Why the network that ``made`` makes, with the kept slices of random weights, doesn't compute what the original
    does without what is removed; empty where it does. ``graph``: None where nothing is."""
    inputs = varied(example, 1, model)
    try:
        other = random_model(model, inputs)
    except VerificationError as error:
        return str(error)
    try:
        network, state = made().eval(), state_of(other)
        if graph is None:
            take(network, state)
            zeroed: Outputs | None = outputs_of(other, inputs, double)
        else:
            take(network, slice_state(state, graph, kept))
            zeroed = Whole(other, graph, kept, double).at(Setting("", inputs, usual=True)).zeroed
        if zeroed is None:
            return "what the original would compute without these channels isn't known"
        out = outputs_of(network, inputs, double, draws=isolated.EvenDraws())
        off, scale = isolated.compare(out, list(zeroed))
    except Exception as error:  # the library's code may raise anything
        return f"the model with fewer can't be run: {describe(error)}"
    limit = TOLERANCE[double] * max(scale, _SMALLEST)
    return "" if off <= limit else f"the model with fewer computes something else, off by {off:.2g} of {scale:.2g}"
