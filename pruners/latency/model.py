"""The predicted time of every pruned version of one network, from measured times of its layers and of a few versions.

    seconds = scale * (sum of the layers' times) + slope * (activations) + constant

The layers' times are looked up in their grids, with straight lines between; the three numbers, none of them below 0,
are such that the versions that were run as a whole come out right. So whatever is no layer with a rule (functions,
products of activations, Python) counts as well: in proportion to the activations, or as a constant.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..costs import CostModel
from ..graph import ChannelGraph
from .layers import Axis, Layer

FloatArray = npt.NDArray[np.float64]
_TRUST = 0.05
"""How much the assumption that layers take in the network what they take alone weighs beside a measured version."""


@dataclass(frozen=True)
class Grid:
    """A layer's seconds at all measured sizes of its two axes (one of length 1 for each that it lacks)."""

    layer: Layer
    seconds: FloatArray


class LatencyModel:
    """``fraction(counts)`` of the whole network's time; it never falls when a width grows. ``digest`` stands for all
    measurements that went in."""

    def __init__(
        self, graph: ChannelGraph, costs: CostModel, grids: Sequence[Grid],
        versions: Sequence[tuple[Mapping[str, int], float]],
    ) -> None:  # fmt: skip
        self._widths = {w.name: i for i, w in enumerate(graph.widths)}
        self._sizes = np.array([w.size for w in graph.widths], dtype=np.float64)
        self._grids = _Lookup(self._widths, grids)
        self._activations = _Activations(graph, costs, self._widths)
        self._factors = np.array([1.0, 0.0, 0.0])
        self._factors = self._fitted(versions)
        self.whole = versions[0][1]
        measured = [(sorted(c.items()), s) for c, s in versions]
        text = repr((measured, [(g.layer.path, g.layer.times, g.seconds.tolist()) for g in grids]))
        self.digest = hashlib.sha256(text.encode()).hexdigest()

    def seconds(self, counts: Mapping[str, int]) -> float:
        """The predicted time when each width keeps so many groups; widths that are left out stay whole."""
        return float(self._parts(counts) @ self._factors)

    def fraction(self, counts: Mapping[str, int]) -> float:
        """Of the measured time of the whole network. A slightly smaller one can be slower: this may begin above 1."""
        return self.seconds(counts) / self.whole

    def _parts(self, counts: Mapping[str, int]) -> FloatArray:
        removed = np.zeros(len(self._sizes))
        for name, n in counts.items():
            removed[self._widths[name]] = self._sizes[self._widths[name]] - n
        return np.array([self._grids.seconds(removed), self._activations.share(removed), 1.0])

    def _fitted(self, versions: Sequence[tuple[Mapping[str, int], float]]) -> FloatArray:
        """Least squares of relative errors; of the whole network only where no other version was run."""
        whole = versions[0][1]
        rows = [self._parts(counts) / seconds for counts, seconds in versions[1:] or versions]
        unit = np.diag([1.0, 1 / whole, 1 / whole]) * _TRUST
        from scipy.optimize import nnls  # takes long to import, and only a budget of latency needs it

        found, _ = nnls(np.array([*rows, *unit]), np.array([*(1.0 for _ in rows), _TRUST, 0.0, 0.0]))
        return np.asarray(found, dtype=np.float64)


class _Lookup:
    """All grids at once: positions in them by size, then straight lines between the four corners."""

    def __init__(self, widths: Mapping[str, int], grids: Sequence[Grid]) -> None:
        axes = list(dict.fromkeys(axis for g in grids for axis in g.layer.axes))
        number = {axis: i for i, axis in enumerate(axes)}
        self._lost = np.zeros((len(axes) + 1, len(widths)))  # the last: an axis that never shrinks
        for axis, i in number.items():
            for name, n in axis.per_group:
                self._lost[i, widths[name]] = n
        positions = [_positions(axis) for axis in axes]
        lengths = [len(p) for p in positions] + [1]
        self._positions = np.concatenate([*positions, [0.0]])
        ends = np.cumsum(lengths)
        self._last = ends - 1  # where a whole axis is looked up
        side = max((len(a.measured) for a in axes), default=1) + 1
        self._side = side
        places = [[number[axis] for axis in g.layer.axes] + [-1, -1] for g in grids]
        self._first = np.array([p[0] for p in places], dtype=np.int64)
        self._second = np.array([p[1] for p in places], dtype=np.int64)
        self._times = np.array([float(g.layer.times) for g in grids])
        padded = [np.pad(g.seconds, [(0, side - n) for n in g.seconds.shape], mode="edge") for g in grids]
        self._seconds = np.array(padded).ravel()
        self._base = np.arange(len(grids)) * side * side

    def seconds(self, removed: FloatArray) -> float:
        place = self._last - np.rint(self._lost @ removed).astype(np.int64)
        position = self._positions[place]
        whole = position.astype(np.int64)
        part = position - whole
        i, j, u, v = whole[self._first], whole[self._second], part[self._first], part[self._second]
        corner = self._base + i * self._side + j
        s = self._seconds
        upper = s[corner] * (1 - v) + s[corner + 1] * v
        lower = s[corner + self._side] * (1 - v) + s[corner + self._side + 1] * v
        return float(self._times @ (upper * (1 - u) + lower * u))


def _positions(axis: Axis) -> FloatArray:
    """For every size from the least to the whole, where it lies among the measured ones."""
    sizes = np.arange(axis.measured[0], axis.size + 1)
    return np.interp(sizes, axis.measured, np.arange(len(axis.measured)))


class _Activations:
    """Numbers that all convolutions and products give, as a share of the whole network's."""

    def __init__(self, graph: ChannelGraph, costs: CostModel, widths: Mapping[str, int]) -> None:
        made = {u.slot.parameter: u.slot.dim for w in graph.widths for u in w.uses if u.role == "out"}
        self._lost = np.zeros(len(widths))
        self._whole = 0.0
        for contraction in (c for c in graph.contractions if c.parameter):
            positions = float(graph.positions(contraction))
            name = graph.key(contraction.parameter)
            size, per_group = costs.axis(name, made.get(name, 0))
            self._whole += positions * size
            for width, n in per_group.items():
                self._lost[widths[width]] += positions * n
        self._whole = self._whole or 1.0

    def share(self, removed: FloatArray) -> float:
        return max(0.0, 1 - float(self._lost @ removed) / self._whole)


def never_falling(seconds: FloatArray) -> FloatArray:
    """The middle between the least grid above and the largest grid below that never fall along an axis."""
    above = below = seconds
    for axis in range(seconds.ndim):
        above = np.maximum.accumulate(above, axis)
        below = np.flip(np.minimum.accumulate(np.flip(below, axis), axis), axis)
    return (above + below) / 2
