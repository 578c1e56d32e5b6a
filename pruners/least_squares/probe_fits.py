"""Least squares for many candidates: a search's probes are fitted without a pass over the images for each of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..graph import BoolArray, ChannelGraph, Kept, Slot
from ..run import as_it_was, images_of
from .fit import PLENTY, System, apply
from .fittable import consumers, kept_outputs
from .gram import Gram
from .layer_inputs import LARGE, Reader, run
from .linear_layers import as_system, unknowns
from .sampling import Look
from .solve import RIDGE, Change, solved
from .survey import survey


class QuickFits:
    """Fits the layers that read narrower widths, each to its own output in the original, from what it reads there.

    That needs one pass for all candidates. It leaves out what ``reconstruct`` does besides: that layers read what
    fitted layers before them give, that sums are fitted, and that all layers behind are fitted, too. Where one width
    alone is narrower, little is lost by it.

    With C the inputs' covariance, K those that are kept and R the others, what the kept weights get is
    ``W_R C_RK inv(C_KK + ridge)``. Layers with few samples for their inputs keep the samples themselves.
    """

    def __init__(
        self, original: nn.Module, graph: ChannelGraph, batches: Iterable[Any], seed: int = 0, ridge: float = RIDGE
    ) -> None:
        images = [images_of(b) for b in batches]
        self._original, self._graph, self._ridge = original, graph, ridge
        self._readers = {w.name: consumers(original, [w]) for w in graph.widths}
        layers = [k for found in self._readers.values() for k, reason in found.items() if not reason]
        layers = list(dict.fromkeys(layers))
        device = next(original.parameters()).device
        with as_it_was(original):
            stops = survey(original.eval(), layers, images[0].to(device)).stops
        self._means = {layer: stop.mean for layer, stop in stops.items()}
        self._samples = _Samples(original, [len(b) for b in images], seed, layers)
        run(self._samples, original, stops, images)

    def __call__(self, pruned: nn.Module, kept: Kept) -> bool:
        """Change the pruned network, which holds sliced weights; False, and nothing is changed, where a layer that
        reads one of its widths can't be fitted."""
        reading: dict[str, str] = {}
        for name in kept:
            reading |= self._readers[name]
        masks = self._graph.masks(kept)
        taken = {layer: self._taken(layer, pruned, masks) for layer in reading}
        if any(reading.values()) or any(index is None for index in taken.values()):
            return False
        rows = kept_outputs(self._graph, kept, reading)
        for layer, index in taken.items():
            assert index is not None
            self._fit(pruned, layer, index, rows.get(layer))
        return True

    def _taken(self, layer: str, pruned: nn.Module, masks: Mapping[Slot, BoolArray]) -> Tensor | None:
        """(groups, kept inputs): which inputs are left; None where that can't be told."""
        old: Any = self._original.get_submodule(layer)
        now: Any = pruned.get_submodule(layer)
        groups, _, inputs = as_system(old, old.weight).shape
        channels = old.weight.shape[1]
        mask = masks.get(Slot(self._graph.key(layer, "weight"), 1, groups))
        kept = torch.ones(groups, channels, dtype=torch.bool) if mask is None else torch.from_numpy(mask)
        kept = kept.view(groups, channels)
        alike = int(kept.sum(1).min()) == int(kept.sum(1).max()) == now.weight.shape[1]
        if layer not in self._samples.known or getattr(now, "groups", 1) != groups or not alike:
            return None
        return kept.repeat_interleave(inputs // channels, 1).nonzero()[:, 1].view(groups, -1)

    def _fit(self, pruned: nn.Module, layer: str, index: Tensor, rows: Tensor | None) -> None:
        now, old = pruned.get_submodule(layer), self._original.get_submodule(layer)
        weight = as_system(old, old.weight.detach())  # type: ignore[operator]
        if index.shape[1] == weight.shape[2]:
            return
        if rows is not None:
            weight = weight.flatten(0, 1)[rows.to(weight.device)].unflatten(0, (len(index), -1))
        place = self._means[layer]
        mean = pruned.get_buffer(place) if place is not None else None
        shifted = now.bias is not None or mean is not None
        change = self._samples.known[layer].change(now, weight, index.to(weight.device), shifted, self._ridge)
        if change is not None:
            apply(now, change, mean)


class _Summed:
    """Enough samples: sums will do."""

    def __init__(self, gram: Gram) -> None:
        self.gram = gram

    def add(self, rows: Tensor, held: Tensor) -> None:
        self.gram.add(rows, rows.new_zeros(*rows.shape[:2], 0))

    def change(self, layer: Any, weight: Tensor, kept: Tensor, shifted: bool, ridge: float) -> Change | None:
        gram, gone = self.gram, _others(kept, weight.shape[2])
        group = torch.arange(len(kept), device=kept.device)[:, None]
        lost = weight.double().gather(2, gone[:, None].expand(-1, weight.shape[1], -1))
        across = gram.xx[group[..., None], kept[..., None], gone[:, None]] @ lost.mT
        square = (lost @ gram.xx[group[..., None], gone[..., None], gone[:, None]] * lost).sum(-1)
        mean = (lost @ gram.x[group, gone][..., None]).squeeze(-1)
        system = gram.xx[group[..., None], kept[..., None], kept[:, None]]
        own = Gram(system, across, gram.x[group, kept], mean, square, gram.count)
        return solved(own, ridge=ridge, shifted=shifted)


class _Kept:
    """Few samples: they are fitted to as ``reconstruct`` does, which finds out how far they can be trusted."""

    def __init__(self) -> None:
        self.parts: list[tuple[Tensor, Tensor]] = []

    def add(self, rows: Tensor, held: Tensor) -> None:
        self.parts.append((rows, held.to(rows.device)))

    def change(self, layer: Any, weight: Tensor, kept: Tensor, shifted: bool, ridge: float) -> Change | None:
        system = System(layer, few=sum(len(x) for x, _ in self.parts) < unknowns(layer) - 1)
        group = torch.arange(len(kept), device=kept.device)[:, None]
        bias = 0 if layer.bias is None else layer.bias.detach()
        for x, held in self.parts:
            target = torch.einsum("ngk,gmk->ngm", x, weight).flatten(1) + bias
            system.add(x[:, group, kept], target, held)
        return system.fit(ridge, shifted)[0]


class _Samples(Reader):
    def __init__(self, model: nn.Module, sizes: Sequence[int], seed: int, layers: Sequence[str]) -> None:
        limits = {layer: LARGE for layer in layers if unknowns(model.get_submodule(layer)) > LARGE}
        super().__init__(model, sizes, seed, limits)
        self._images, self._sizes, self.known = sum(sizes), sizes, dict[str, _Summed | _Kept]()

    def read(self, layer: str, rows: Tensor, look: Look) -> None:
        if layer not in self.known:
            expected = len(rows) * self._images / self._sizes[self.number]
            groups, inputs = rows.shape[1:]
            plenty = expected >= PLENTY * (inputs + 1)
            self.known[layer] = _Summed(Gram.empty(groups, inputs, 0, rows.device)) if plenty else _Kept()
        self.known[layer].add(rows, look.held)


def _others(kept: Tensor, size: int) -> Tensor:
    """(groups, size - n) from (groups, n): the indices that are not there."""
    left = torch.ones(len(kept), size, dtype=torch.bool, device=kept.device).scatter_(1, kept, False)
    return left.nonzero()[:, 1].view(len(kept), -1)
