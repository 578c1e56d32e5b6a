"""Whether a network made in another way is the pruned one, before anything is decided."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
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


class Likeness:
    """What networks are held against that are made in other ways: the model with random weights, always the same ones,
    on inputs like the example."""

    def __init__(self, model: nn.Module, example: Any) -> None:
        self._model, self._example = model, example
        self._seed: int | None = None
        self._whole: Outputs | None = None

    @cached_property
    def _inputs(self) -> Any:
        return varied(self._example, 1, self._model)

    def _random(self) -> nn.Module:
        other, self._seed = random_model(self._model, self._inputs, self._seed)
        return other

    def differs(self, graph: ChannelGraph | None, kept: Kept, made: Callable[[], nn.Module]) -> str:
        """Why the network that ``made`` makes, with the kept slices of random weights, doesn't compute what the
        original does without what is removed; empty where it does. ``graph``: None where nothing is."""
        try:
            other = self._random()
        except VerificationError as error:
            return str(error)
        try:
            network, state = made().eval(), state_of(other)
            if graph is None:
                take(network, state)
                self._whole = self._whole or outputs_of(other, self._inputs, False)
                zeroed: Outputs | None = self._whole
            else:
                take(network, slice_state(state, graph, kept))
                zeroed = Whole(other, graph, kept, False).at(Setting("", self._inputs, usual=True)).zeroed
            if zeroed is None:
                return "what the original would compute without these channels isn't known"
            out = outputs_of(network, self._inputs, False, draws=isolated.EvenDraws())
            off, scale = isolated.compare(out, list(zeroed))
        except Exception as error:  # the library's code may raise anything
            return f"the model with fewer can't be run: {describe(error)}"
        limit = TOLERANCE[False] * max(scale, _SMALLEST)
        return "" if off <= limit else f"the model with fewer computes something else, off by {off:.2g} of {scale:.2g}"
