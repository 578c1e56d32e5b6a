"""What layers of a network read, summed up over images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ..run import as_it_was, images_of
from .linear_layers import inputs_at, positions
from .sampling import Look, Sampler
from .survey import Stop
from .visits import Visitor, visit

SAMPLES = 20_000  # positions at most that are looked at
LARGE = 6_000  # inputs from which on only fewer samples than inputs are worth their memory


class Reader(Visitor):
    """Calls ``read`` with the inputs (samples, groups, inputs) of some positions of every layer it comes by."""

    def __init__(self, model: nn.Module, sizes: Sequence[int], seed: int, limits: Mapping[str, int]) -> None:
        self._model, self._sampler, self._limits = model, Sampler(sizes, seed), limits
        self.number = 0

    def enters(self, stop: Stop, call: int, x: Tensor) -> None:
        layer: Any = self._model.get_submodule(stop.layer)
        total = math.prod(positions(layer, x))
        look = self._sampler.look(stop.layer, self.number, call, total, self._limits.get(stop.layer, SAMPLES))
        self.read(stop.layer, inputs_at(layer, x, look.rows.to(x.device)), look)

    def read(self, layer: str, rows: Tensor, look: Look) -> None:
        raise NotImplementedError


def run(reader: Reader, model: nn.Module, layers: Iterable[str], batches: Sequence[Any]) -> None:
    """One pass in eval mode; the model is left as it was."""
    device = next(model.parameters()).device
    stops = [Stop(layer) for layer in layers]
    with as_it_was(model):
        model.eval()
        for reader.number, batch in enumerate(batches):
            visit(model, images_of(batch).to(device), stops, reader)
