"""From a sliced network to one with fitted layers."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import NeedsDataError
from ..graph import ChannelGraph, Kept
from ..run import as_it_was, copied, estimate_batch_norm, images_of
from .fit import Fitted
from .fittable import consumers, kept_outputs, layers_to_fit
from .layer_by_layer import Report, Settings, Walk
from .survey import Stop, Survey, survey

_ROOM = 1.5  # what a pass takes, in parts of the activations that are alive between two layers


@dataclass(frozen=True)
class Reconstruction:
    """``left``: consumers of pruned widths that hold slices only, and why."""

    state: dict[str, Tensor]
    fitted: tuple[Fitted, ...]
    left: Mapping[str, str]
    images: int

    @property
    def shortage(self) -> str:
        """What to say where the images don't determine the weights."""
        short = [f for f in self.fitted if f.samples < f.unknowns]
        if not short:
            return ""
        worst = max(short, key=lambda f: f.unknowns / f.samples)
        needed = math.ceil(worst.unknowns * self.images / worst.samples)
        return (
            f"{self.images} images are too few for {len(short)} of {len(self.fitted)} layers ({worst.layer} has "
            f"{worst.unknowns} unknowns for each output and {worst.samples} samples): {needed} or more would "
            "determine them; what is undetermined stays as it was sliced"
        )


def reconstruct(
    original: nn.Module,
    pruned: nn.Module,
    graph: ChannelGraph,
    kept: Kept,
    batches: Iterable[Any],
    settings: Settings | None = None,
    report: Report | None = None,
) -> Reconstruction:
    """Fit the layers of ``pruned``, which holds sliced weights: the first that reads a pruned width, and all after it,
    because what they read has changed. Where a reader can't be fitted, the batch norm behind it is settled anew.

    ``batches``: tensors, or tuples that begin with one. Neither network is changed. The same seed gives the same
    weights.
    """
    settings = settings or Settings()
    student = copied(pruned).eval()
    device = next(student.parameters()).device
    images = [images_of(b).to(device) for b in batches]
    images = [b for b in images if len(b)]
    if not images:
        raise NeedsDataError("--transfer lstsq got no batches: there is nothing to fit to")
    smaller = [w for w in graph.widths if w.name in kept and np.asarray(kept[w.name]).size < w.size]
    readers = consumers(student, smaller)
    layers = layers_to_fit(student)
    _estimate_norms(student, [layer for layer, reason in readers.items() if reason], images)
    with as_it_was(original):
        original.eval()
        theirs, ours = (survey(network, layers, images[0]) for network in (original, student))
        stops = _agreed(theirs, ours, readers)
        whole = _together(images, max(theirs.held, ours.held), settings.memory)
        outputs = kept_outputs(graph, kept, [stop.layer for stop in stops])
        fitted = Walk(original, student, stops, outputs, whole, settings, report).run()
    reached = {stop.layer for stop in stops}
    left = {layer: reason or "it doesn't run as a layer of its own" for layer, reason in readers.items()
            if layer not in reached}  # fmt: skip
    state = {k: v.detach().clone() for k, v in student.state_dict().items()}
    return Reconstruction(state, tuple(fitted), left, sum(len(b) for b in images))


def _estimate_norms(student: nn.Module, left: Collection[str], images: list[Tensor]) -> None:
    """Behind layers that aren't fitted, statistics of batch norms are taken anew, as ``--transfer bn`` does."""
    layers = [name for name, _ in student.named_modules() if name in left]
    means = [stop.mean for stop in survey(student, layers, images[0]).stops.values()] if layers else []
    norms: list[Any] = [student.get_submodule(mean.rpartition(".")[0]) for mean in means if mean is not None]
    if norms:
        momenta = [norm.momentum for norm in norms]
        estimate_batch_norm(student, norms, images)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()


def _agreed(theirs: Survey, ours: Survey, readers: Collection[str]) -> list[Stop]:
    """Stops that both networks come by in the same way, from the first reader on."""
    stops: list[Stop] = []
    for layer, stop in ours.stops.items():
        other = theirs.stops.get(layer)
        if other is not None and other.calls == stop.calls and (stops or layer in readers):
            stops.append(stop if stop.way == other.way else replace(stop, way=None))
    return stops


def _together(batches: list[Tensor], held: int, memory: int) -> list[Tensor]:
    """All images in one batch, where there is room for what a network makes of them."""
    images = sum(len(b) for b in batches)
    alike = len({(b.shape[1:], b.dtype) for b in batches}) == 1
    if alike and _ROOM * held * images / len(batches[0]) <= memory:
        return [torch.cat(batches)]
    return batches
