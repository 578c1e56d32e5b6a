"""The metric ``reconstruction``: what goes first is what least squares can best make up for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import NeedsDataError
from ..graph import Slot, Width
from ..least_squares import (
    LARGE,
    RIDGE,
    Elimination,
    Gram,
    Independent,
    Look,
    Reader,
    System,
    as_system,
    consumers,
    eliminate,
    run,
)
from ..run import images_of
from .registry import Evidence, Scores, metric
from .weights import fill_by_l1

_ROUNDING = 1e-6  # of the mean square: what varies less is what single precision left


@metric("reconstruction")
def reconstruction(evidence: Evidence) -> Scores:
    """score = what the outputs of the layers that read the width lose, as a part of their variance, when the group and
    all that are less useful are gone and the layers' weights are fitted anew; by backward elimination on the inputs'
    covariance, summed over the layers. Labels are not looked at.

    A width without a layer that can be fitted falls back to ``l1``, with a note. Raises ``UsageError`` without batches.
    """
    if not evidence.batches:
        raise NeedsDataError("metric reconstruction needs images; give --data or take l1")
    reading = {w.name: _readers(evidence, w) for w in evidence.graph.widths}
    layers = dict.fromkeys(slot.layer for slots in reading.values() for slot in slots)
    grams = _grams(evidence, layers)
    scores: Scores = {}
    for width in evidence.graph.widths:
        known = [slot for slot in reading[width.name] if slot.layer in grams]
        systems = [s for slot in known for s in _systems(evidence.model, grams[slot.layer], width, slot)]
        if systems:
            scores[width.name] = eliminate(systems, torch.from_numpy(width.block_of))
    return fill_by_l1(evidence, scores, "reconstruction: nothing that could be fitted reads {}; l1 there")


def _readers(evidence: Evidence, width: Width) -> list[Slot]:
    """The weights through which layers that can be fitted read the width."""
    fit = consumers(evidence.model, [width])
    slots = [u.slot for u in width.uses if u.role == "in" and not u.slot.virtual]
    return [slot for slot in slots if not fit[slot.layer or slot.parameter]]


def _grams(evidence: Evidence, layers: Iterable[str]) -> dict[str, Gram]:
    """Of what each layer reads in the original; layers that don't run have none."""
    batches = evidence.batches or ()
    sums = _Sums(evidence.model, [len(images_of(b)) for b in batches], evidence.seed, {})
    run(sums, evidence.model, layers, batches)
    return sums.grams


class _Sums(Reader):
    def __init__(self, model: nn.Module, sizes: Sequence[int], seed: int, limits: Mapping[str, int]) -> None:
        super().__init__(model, sizes, seed, limits)
        self.grams: dict[str, Gram] = {}

    def read(self, layer: str, rows: Tensor, look: Look) -> None:
        groups, inputs = rows.shape[1:]
        if inputs > LARGE:  # each input a system of its own: only its power is known
            groups, inputs, rows = groups * inputs, 1, rows.reshape(len(rows), -1, 1)
        gram = self.grams.setdefault(layer, Gram.empty(groups, inputs, 0, rows.device))
        gram.add(rows, rows.new_zeros(len(rows), groups, 0))


def _systems(model: nn.Module, gram: Gram, width: Width, slot: Slot) -> list[System]:
    """One for each convolution group that reads the width."""
    layer: Any = model.get_submodule(slot.layer)
    weight = as_system(layer, layer.weight.detach()).double()
    covariance = (gram.xx - gram.x[..., None] * gram.x[:, None] / gram.count) / gram.count
    power = gram.xx.diagonal(dim1=-2, dim2=-1) / gram.count
    moves = covariance.diagonal(dim1=-2, dim2=-1) > _ROUNDING * power
    covariance = covariance * (moves[..., None] & moves[:, None])
    kernel, inputs = math.prod(layer.weight.shape[2:]), layer.weight.shape[1]
    index = torch.cat([torch.from_numpy(u.index) for u in width.uses if u.slot == slot], 1)
    found: list[System] = []
    for group, own in enumerate(weight):
        members = (index // inputs == group).all(1).nonzero().reshape(-1)
        if not len(members):
            continue
        places = (index[members] % inputs)[..., None] * kernel + torch.arange(kernel)
        places = places.flatten(1).to(own.device)
        if len(covariance) == len(weight):
            found.append(Elimination(covariance[group], own, places, members, RIDGE))
        else:
            found.append(Independent(covariance.reshape(len(weight), -1)[group], own, places, members))
    return found
