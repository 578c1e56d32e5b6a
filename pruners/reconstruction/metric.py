"""The metric ``reconstruction``: what goes first is what least squares can best make up for."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from pruners.channel_graph import Slot, Width
from pruners.errors import UsageError
from pruners.ranking import Evidence, Scores, l1, metric
from pruners.reconstruction.consumers import consumers
from pruners.reconstruction.elimination import Elimination, Independent, System, eliminate
from pruners.reconstruction.gram import Gram
from pruners.reconstruction.layers import as_system, inputs_at, positions
from pruners.reconstruction.passes import Visitor, visit
from pruners.reconstruction.sampling import Sampler
from pruners.reconstruction.solve import RIDGE
from pruners.reconstruction.survey import Stop
from pruners.running import as_it_was, images_of

_SAMPLES = 20_000
_LARGE = 6_000  # inputs from which on they are taken to be independent


@metric("reconstruction")
def reconstruction(evidence: Evidence) -> Scores:
    """score = what the outputs of the layers that read the width lose, as a part of their variance, when the group and
    all that are less useful are gone and the layers' weights are fitted anew; by backward elimination on the inputs'
    covariance, summed over the layers. Labels are not looked at.

    A width without a layer that can be fitted falls back to ``l1``, with a note. Raises ``UsageError`` without batches.
    """
    if not evidence.batches:
        raise UsageError("metric reconstruction needs images; give --data or take l1")
    reading = {w.name: _readers(evidence, w) for w in evidence.graph.widths}
    layers = dict.fromkeys(slot.layer for slots in reading.values() for slot in slots)
    grams = _grams(evidence, layers)
    scores: Scores = {}
    for width in evidence.graph.widths:
        known = [slot for slot in reading[width.name] if slot.layer in grams]
        systems = [s for slot in known for s in _systems(evidence.model, grams[slot.layer], width, slot)]
        if systems:
            scores[width.name] = eliminate(systems, torch.from_numpy(width.block_of))
    without = [w.name for w in evidence.graph.widths if w.name not in scores]
    if without:
        evidence.notes.append(f"reconstruction: nothing that could be fitted reads {', '.join(without)}; l1 there")
        fallback = l1(evidence)
        level = torch.cat(list(scores.values())).mean() if scores else 1.0
        scores |= {name: fallback[name] * level for name in without}
    return scores


def _readers(evidence: Evidence, width: Width) -> list[Slot]:
    """The weights through which layers that can be fitted read the width."""
    fit = consumers(evidence.model, [width])
    slots = [u.slot for u in width.uses if u.role == "in" and not u.slot.virtual]
    return [slot for slot in slots if not fit[slot.layer or slot.parameter]]


def _grams(evidence: Evidence, layers: Iterable[str]) -> dict[str, Gram]:
    """Of what each layer reads in the original; layers that don't run have none."""
    batches = [images_of(b) for b in evidence.batches or ()]
    device = next(evidence.model.parameters()).device
    stops = [Stop(layer) for layer in layers]
    gathering = _Gathering(evidence.model, Sampler([len(b) for b in batches], evidence.seed))
    with as_it_was(evidence.model):
        evidence.model.eval()
        for gathering.number, batch in enumerate(batches):
            visit(evidence.model, batch.to(device), stops, gathering)
    return gathering.grams


class _Gathering(Visitor):
    def __init__(self, model: nn.Module, sampler: Sampler) -> None:
        self._model, self._sampler, self.number = model, sampler, 0
        self.grams: dict[str, Gram] = {}

    def enters(self, stop: Stop, call: int, x: Tensor) -> None:
        layer: Any = self._model.get_submodule(stop.layer)
        groups, _, inputs = as_system(layer, layer.weight).shape
        total = math.prod(positions(layer, x))
        look = self._sampler.look(stop.layer, self.number, call, total, _SAMPLES)
        rows = inputs_at(layer, x, look.rows.to(x.device))
        if inputs > _LARGE:  # each input a system of its own: only its power is known
            groups, inputs, rows = groups * inputs, 1, rows.reshape(len(rows), -1, 1)
        gram = self.grams.setdefault(stop.layer, Gram.empty(groups, inputs, 0, x.device))
        gram.add(rows, rows.new_zeros(len(rows), groups, 0))


def _systems(model: nn.Module, gram: Gram, width: Width, slot: Slot) -> list[System]:
    """One for each convolution group that reads the width."""
    layer: Any = model.get_submodule(slot.layer)
    weight = as_system(layer, layer.weight.detach()).double()
    covariance = (gram.xx - gram.x[..., None] * gram.x[:, None] / gram.count) / gram.count
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
