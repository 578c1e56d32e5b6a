"""The channel graph: which slices of which parameters can only go together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import networkx as nx
import numpy as np
import torch

from ..run import Decision
from ..shown import listed, table
from .explain import why
from .widths import (
    BoolArray,
    Contraction,
    CountedCall,
    FrozenChannels,
    Kept,
    Operation,
    Pass,
    Positions,
    Slot,
    Step,
    Untaken,
    Width,
)


@dataclass(frozen=True, repr=False)
class ChannelGraph:
    """Slots, groups and widths of one network, and the reasons that tie them.

    ``network`` is an undirected networkx graph: nodes are ``Slot`` and width names; an edge slot-width carries
    ``index``; an edge slot-slot is a tie and carries ``reason`` and ``site``.
    """

    widths: tuple[Width, ...]
    frozen: tuple[FrozenChannels, ...]
    shapes: Mapping[str, tuple[int, ...]]
    contractions: tuple[Contraction, ...]
    network: nx.Graph = field(compare=False, repr=False)
    aliases: Mapping[str, str] = field(default_factory=dict)  # state_dict key -> the key that Slots name
    calls: tuple[CountedCall, ...] = ()  # of a pass in eval mode, in order of execution
    steps: tuple[Step, ...] = field(default=(), compare=False, repr=False)  # of a pass in eval mode
    decided: tuple[Decision, ...] = field(default=(), compare=False, repr=False)  # by the data of that pass
    untaken: tuple[Untaken, ...] = field(default=(), compare=False, repr=False)  # places that no run comes by
    # passes on other examples, in training, on other inputs, along ways that no run takes
    further: tuple[Pass, ...] = field(default=(), compare=False, repr=False)
    # operations that read removable channels without weights: products of two activations, norms, other statistics
    readers: Mapping[Operation, Positions] = field(default_factory=dict, compare=False, repr=False)
    # of widths that one number counts: the graph with each width by itself, see ``together``
    apart: ChannelGraph | None = field(default=None, compare=False, repr=False)
    parts: Mapping[str, tuple[tuple[str, int], ...]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def passes(self) -> tuple[Pass, ...]:
        """All runs that the trace saw; first that on the first example, in eval mode."""
        return Pass(steps=self.steps, calls=self.calls, decided=self.decided), *self.further

    def __repr__(self) -> str:
        named = listed(f"{w.name} {w.size}" for w in self.widths) or "none"
        return f"ChannelGraph({self._title}: {named}; frozen: {len(self.frozen)})"

    def _repr_html_(self) -> str:
        rows = [(w.name, w.size, ", ".join(w.producers), ", ".join(w.consumers)) for w in self.widths]
        stays = [(listed(map(str, f.slots)), f.count, f.reason, f.site) for f in self.frozen]
        free = table(f"ChannelGraph: {self._title}", ("width", "channels", "made by", "read by"), rows)
        return free + table("Must stay", ("where", "channels", "why", "place"), stays) if stays else free

    @property
    def _title(self) -> str:
        free = sum(w.size for w in self.widths)
        return f"{len(self.widths)} widths, {free:,} prunable channels of {free + sum(f.count for f in self.frozen):,}"

    def each(self, kept: Kept) -> Kept:
        """What is kept of every width by itself, as ``apart`` names them."""
        if self.apart is None:
            return kept
        found: dict[str, np.ndarray] = {}
        for name, members in self.parts.items():
            begin, here = 0, np.asarray(kept[name]) if name in kept else None
            for member, size in members:
                if here is not None:
                    found[member] = here[(here >= begin) & (here < begin + size)] - begin
                begin += size
        return found

    def each_count(self, counts: Mapping[str, int]) -> Mapping[str, int]:
        """How many groups of every width by itself stay."""
        if self.apart is None:
            return counts
        sizes = {w.name: w.size for w in self.widths}
        return {m: n * size // sizes[name] for name, n in counts.items() for m, size in self.parts[name]}

    def width(self, name: str) -> Width:
        return next(w for w in self.widths if w.name == name)

    def key(self, *path: str) -> str:
        """The name under which ``shapes`` and slots know a tensor of the state_dict: one tensor can have several names.

        ``path``: the name, or its parts, such as a layer's path and ``"weight"``; empty parts are left out.
        """
        name = ".".join(filter(None, path))
        return self.aliases.get(name, name)

    def why(self, layer: str) -> str:
        """Which channels go together with a layer's, or why they stay, with the operation, file and line."""
        return why(self, layer)

    def positions(self, contraction: Contraction) -> Fraction:
        """At how many positions of one image its weight is multiplied; a part of it counts by that part."""
        shape = self.shapes.get(contraction.parameter)
        return contraction.macs / math.prod(shape) if shape else Fraction(0)

    def masks(self, kept: Kept) -> dict[Slot, BoolArray]:
        """For every slot that loses something, which positions stay. ``kept``: width name -> kept group indices."""
        if self.apart is not None:
            return self.apart.masks(self.each(kept))
        masks: dict[Slot, BoolArray] = {}
        for width in self.widths:
            if width.name not in kept:
                continue
            gone = np.ones(width.size, dtype=bool)
            gone[np.asarray(kept[width.name], dtype=np.int64)] = False
            if not gone.any():
                continue
            for use in width.uses:
                if use.slot.virtual:
                    continue
                if use.slot not in masks:
                    masks[use.slot] = np.ones(self.slot_size(use.slot), dtype=bool)
                masks[use.slot][use.index[gone].ravel()] = False
        return masks

    def laid_out(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor of the state_dict in the shape that its slots are of: weights that are kept in one line, and which
        the network views as filters, in the shape of these."""
        shape = self.shapes.get(self.key(name), tensor.shape)
        return tensor.view(shape) if tensor.shape != shape and tensor.numel() == math.prod(shape) else tensor

    def slot_size(self, slot: Slot) -> int:
        return self.shapes[slot.parameter][slot.dim] * slot.blocks
