"""What a network costs: parameters, multiply-accumulates, bits, bytes. Predicted for a plan, or counted on a model.

Conventions. *Parameters* are the elements of all ``nn.Parameter``s, tied ones once. *MACs* are the
multiply-accumulates of all convolutions and matrix products, for one image: of weights, of what is made of weights,
and of two activations, as in attention; biases, normalisation, activations and pooling are not counted. *Bits* are
what the parameters need when every layer stores its weights in its own precision: 32 per real weight. *Size* is the
bytes of parameters and buffers as they lie in a checkpoint.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ..graph import ChannelGraph, Contraction, Extent, Kept, Slot
from .precision import bits_in, precision_for


@dataclass(frozen=True)
class Costs:
    """``uncounted``: the layers, where costs were measured, whose weights no counted product has read."""

    params: int
    macs: int
    bits: int
    size_bytes: int
    uncounted: tuple[str, ...] = ()

    def relative_to(self, before: Costs) -> dict[str, float]:
        """Each cost as a fraction of ``before``; 1 where ``before`` is 0."""
        names = ("params", "macs", "bits", "size_bytes")
        return {n: getattr(self, n) / getattr(before, n) if getattr(before, n) else 1.0 for n in names}


@dataclass(frozen=True)
class Stored:
    """How one tensor of a state_dict is stored: is it a parameter, bits it needs and bytes it takes per element.

    ``row_bits``: what each position of the first axis needs on top, such as a filter's scale.
    """

    is_parameter: bool
    bits: float = 32.0
    itemsize: int = 4
    row_bits: float = 0.0

    def bits_of(self, shape: Sequence[int]) -> float:
        """What a tensor of this shape needs."""
        return self.bits * math.prod(shape) + self.row_bits * (shape[0] if shape else 0)


def is_table(shape: Sequence[int]) -> bool:
    """Does a parameter of this shape have several axes, and so perhaps products to count? Scales and biases don't."""
    return sum(n > 1 for n in shape) > 1


def _parameter(module: nn.Module, name: str, size: int) -> Stored:
    known = precision_for(type(module))
    if name == "weight" and known.weights is not None:
        return Stored(True, bits_in(module, known.weights), size, known.per_row)
    return Stored(True, 8.0 * size, size)


def stored_tensors(model: nn.Module, dtype: torch.dtype | None = None) -> dict[str, Stored]:
    """For every state_dict key how its tensor is stored. ``dtype``: what floating-point is written as (default:
    what they are)."""
    state = {name: t for name, t in model.state_dict(keep_vars=True).items() if torch.is_tensor(t)}
    sizes = {n: (dtype if dtype and t.is_floating_point() else t.dtype).itemsize for n, t in state.items()}
    result = {name: Stored(False, 0.0, size) for name, size in sizes.items()}
    for prefix, module in model.named_modules(remove_duplicate=False):
        for name, _ in module.named_parameters(prefix, recurse=False):
            if name in result:
                result[name] = _parameter(module, name.rpartition(".")[2], sizes[name])
    return result


class CostModel:
    """Exact costs of every pruned version of one network, without running or building it.

    Every axis of every tensor shrinks linearly: ``size = full - sum over widths of m * removed groups``, where ``m``
    positions of the axis belong to one group (divided by the blocks of a grouped convolution's input axis). So does
    every index that a product runs over: ``params = sum of numel``, ``MACs = sum over products of prod of sizes``.
    """

    def __init__(self, graph: ChannelGraph, stored: Mapping[str, Stored]) -> None:
        self._graph, graph = graph, graph.apart or graph
        names = [n for n in graph.shapes if graph.key(n) == n]
        row = self._row = {name: i for i, name in enumerate(names)}
        axes = max((len(graph.shapes[n]) for n in names), default=0) or 1
        self._widths = {w.name: i for i, w in enumerate(graph.widths)}
        self._full = np.array([w.size for w in graph.widths], dtype=np.int64)
        self._sizes = np.ones((len(names), axes), dtype=np.int64)
        for name, i in row.items():
            self._sizes[i, : len(graph.shapes[name])] = graph.shapes[name]
        lost = [
            (row[graph.key(slot.parameter)] * axes + slot.dim, w, per_group / slot.blocks)
            for slot, w, per_group in _lengths(graph)
        ]
        places, owners, numbers = zip(*lost, strict=True) if lost else ((), (), ())
        # where a size shrinks, with which width, by how much for a group
        self._places, self._owners = (np.array(n, dtype=np.int64) for n in (places, owners))
        self._lost = np.array(numbers, dtype=np.float64)
        facts = [stored.get(n, Stored(False, 0.0, 0)) for n in names]  # a buffer may be left out of checkpoints
        self._is_parameter = np.array([f.is_parameter for f in facts], dtype=bool)
        self._bits = np.array([f.bits if f.is_parameter else 0.0 for f in facts])
        self._row_bits = np.array([f.row_bits if f.is_parameter else 0.0 for f in facts])
        self._bytes = np.array([f.itemsize for f in facts], dtype=np.int64)
        self._count_products(graph.contractions)

    def _count_products(self, contractions: Sequence[Contraction]) -> None:
        """Every product as a factor and the numbers of its extents; the last extent is always 1."""
        extents: dict[Extent, int] = {}
        macs: defaultdict[tuple[int, ...], Fraction] = defaultdict(Fraction)  # a recurrent layer repeats one product
        for contraction in contractions:
            numbers = tuple(sorted(extents.setdefault(e, len(extents)) for e in contraction.over))
            macs[numbers] += contraction.macs
        whole = [extent.size for extent in extents]
        most = max(map(len, macs), default=0)
        self._factors = np.array([float(n / math.prod(whole[i] for i in numbers)) for numbers, n in macs.items()])
        rows = [[*numbers, *[len(extents)] * (most - len(numbers))] for numbers in macs]
        self._over = np.array(rows, dtype=np.int64).reshape(len(macs), most)
        self._extents = np.array([*whole, 1], dtype=np.float64)
        self._shrinking = np.zeros((len(extents) + 1, len(self._full)))
        self._uneven: dict[int, Extent] = {}  # which groups go matters, not only how many
        for extent, i in extents.items():
            for name, groups in extent.parts:
                width = self._widths[name]
                self._shrinking[i, width] = len(groups) / self._full[width]
                if np.ptp(np.bincount(groups, minlength=int(self._full[width]))):
                    self._uneven[i] = extent

    def axis(self, parameter: str, dim: int) -> tuple[int, dict[str, float]]:
        """The whole size of one axis, and for every width that it shrinks with, how much goes with a group."""
        place = self._row[parameter] * self._sizes.shape[1] + dim
        here, widths = self._places == place, list(self._widths)
        found: dict[str, float] = {}
        for w, n in zip(self._owners[here].tolist(), self._lost[here].tolist(), strict=True):
            found[widths[w]] = found.get(widths[w], 0.0) + n
        for width in self._graph.widths if self._graph.apart is not None else ():
            mine = {m: size / width.size for m, size in self._graph.parts[width.name] if m in found}
            if mine:
                found[width.name] = sum(share * found.pop(m) for m, share in mine.items())
        return int(self._sizes[self._row[parameter], dim]), found

    @classmethod
    def of(cls, model: nn.Module, graph: ChannelGraph, dtype: torch.dtype | None = None) -> CostModel:
        """``dtype``: what the weights are written as (default: what they are)."""
        return cls(graph, stored_tensors(model, dtype))

    def count(self, counts: Mapping[str, int]) -> Costs:
        """The costs when each width keeps so many groups; widths that ``counts`` leaves out stay whole."""
        removed = self._removed(self._graph.each_count(counts))
        return self._costs(removed, self._extents - self._shrinking @ removed)

    def predict(self, kept: Kept) -> Costs:
        """The costs for these kept indices per width."""
        kept = self._graph.each(kept)
        removed = self._removed({name: len(np.asarray(indices)) for name, indices in kept.items()})
        extents = self._extents - self._shrinking @ removed
        for i, extent in self._uneven.items():
            extents[i] = extent.count(kept)
        return self._costs(removed, extents)

    def layers(self, kept: Kept) -> dict[str, tuple[int, int]]:
        """Parameters and MACs of every layer that has some, by its path, in the order in which their products run;
        a layer without products follows the one that is made before it."""
        each = self._graph.each(kept)
        removed = self._removed({name: len(np.asarray(indices)) for name, indices in each.items()})
        numel = self._numel(removed)[0]
        params: defaultdict[str, int] = defaultdict(int)
        for name, row in self._row.items():
            if self._is_parameter[row]:
                params[name.rpartition(".")[0] or name] += int(numel[row])
        macs: defaultdict[str, Fraction] = defaultdict(Fraction)
        for product in (self._graph.apart or self._graph).contractions:
            left = math.prod(Fraction(e.count(each), max(e.size, 1)) for e in product.over)
            macs[product.module] += product.macs * left
        turn, last = {name: (i, 0) for i, name in enumerate(macs)}, (-1, 0)
        for name in params:
            last = turn.setdefault(name, (last[0], last[1] + 1))
        return {name: (params[name], round(macs[name])) for name in sorted(turn, key=turn.__getitem__)}

    def _removed(self, counts: Mapping[str, int]) -> npt.NDArray[np.int64]:
        removed = np.zeros(len(self._full), dtype=np.int64)
        for name, n in counts.items():
            removed[self._widths[name]] = self._full[self._widths[name]] - n
        return removed

    def _costs(self, removed: npt.NDArray[np.int64], extents: npt.NDArray[np.float64]) -> Costs:
        numel, sizes = self._numel(removed)
        return Costs(
            params=int(numel[self._is_parameter].sum()),
            macs=round(float(self._factors @ extents[self._over].prod(axis=1))),
            bits=round(float(self._bits @ numel + self._row_bits @ sizes[:, 0])),
            size_bytes=int(self._bytes @ numel),
        )

    def _numel(self, removed: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """How many elements every tensor has then, and its sizes."""
        lost = np.bincount(self._places, self._lost * removed[self._owners], self._sizes.size)
        sizes = np.rint(self._sizes - lost.reshape(self._sizes.shape)).astype(np.int64)
        return sizes.prod(axis=1), sizes


def _lengths(graph: ChannelGraph) -> list[tuple[Slot, int, int]]:
    """(slot, width number, positions of the slot that one group owns)."""
    found = []
    for i, width in enumerate(graph.widths):
        by_slot: dict[Slot, list[npt.NDArray[np.int64]]] = {}
        for use in width.uses:
            if not use.slot.virtual:
                by_slot.setdefault(use.slot, []).append(use.index.reshape(width.size, -1))
        for slot, indices in by_slot.items():
            several = len(indices) > 1  # one use names no position twice
            size = np.unique(np.concatenate([x.ravel() for x in indices])).size if several else indices[0].size
            found.append((slot, i, size // width.size))
    return found


def predict(
    graph: ChannelGraph, kept: Kept, stored: Mapping[str, Stored] | Collection[str]
) -> Costs:
    """The costs of the network that keeps these groups, exact and without running it.

    ``stored`` is ``stored_tensors(model)``, or just the names of the parameters (then every element is taken to
    have 32 bits). For many predictions on one graph keep a ``CostModel``.
    """
    if not isinstance(stored, Mapping):
        names = set(stored)
        stored = {n: Stored(True) if n in names else Stored(False, 0.0) for n in graph.shapes}
    return CostModel(graph, stored).predict(kept)
