"""Facts about channels, as both the tracer and the decorators state them.

Every position of every slot is an *atom*, a positive integer; 0 stands for "must stay". Facts only ever unite,
freeze or constrain atoms, so their order doesn't matter and two sources of facts can be compared.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..places import Site, Span
from .widths import IntArray, Slot

SILENT = ""
"""The reason of freezes that nobody wants to read about: positions of an axis that holds no channels."""


@dataclass(frozen=True)
class Tie:
    """Atoms ``first[i]`` and ``second[i]`` can only go together."""

    first: IntArray = field(compare=False)
    second: IntArray = field(compare=False)
    reason: str
    site: Site


@dataclass(frozen=True)
class Freeze:
    """These atoms must stay."""

    atoms: IntArray = field(compare=False)
    reason: str
    site: Site


@dataclass(frozen=True)
class Uniform:
    """Every row of ``atoms`` (blocks, n) must keep equally many, and at least one."""

    atoms: IntArray = field(compare=False)
    reason: str
    site: Site


@dataclass(frozen=True)
class SiteCall:
    """A call with integers that count channels: path into (args, kwargs) -> the atoms counted there."""

    name: str
    module: str
    site: Site
    span: Span
    counts: Mapping[tuple[int | str, ...], IntArray] = field(compare=False)
    constants: Mapping[tuple[int | str, ...], float] = field(default_factory=dict)


def _ordered(values: IntArray) -> IntArray:
    """Each value once, ascending; most lists are so already."""
    return values if bool((values[1:] > values[:-1]).all()) else np.unique(values)


class Facts:
    """Collects facts about the parameters and buffers whose ``shapes`` are given (state_dict key -> shape)."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], buffers: Collection[str] = ()) -> None:
        self.shapes = dict(shapes)
        self.buffers = frozenset(buffers)
        self.ties: list[Tie] = []
        self.freezes: list[Freeze] = []
        self.uniforms: list[Uniform] = []
        self.inexact: list[IntArray] = []
        self.incomparable: list[IntArray] = []
        self._slots: list[Slot] = []
        self._bases: list[int] = []
        self._base_of: dict[Slot, int] = {}
        self._sizes: dict[Slot, int] = {}
        self._roles: dict[Slot, set[str]] = {}
        self._end = 1

    def atoms(self, slot: Slot, size: int | None = None) -> IntArray:
        """The atoms of a slot, in the slot's order. ``size`` is needed once, for a virtual slot only."""
        if slot not in self._base_of:
            if size is None:
                size = self.shapes[slot.parameter][slot.dim] * slot.blocks
            self._base_of[slot] = self._end
            self._slots.append(slot)
            self._bases.append(self._end)
            self._sizes[slot] = size
            self._end += size
        base = self._base_of[slot]
        return np.arange(base, base + self._sizes[slot], dtype=np.int64)

    def virtual(self, label: str, size: int, site: Site) -> IntArray:
        """Fresh removable atoms that no tensor stores, such as the zeros of a padding."""
        slot = Slot(f"<{label} {len(self._slots)} at {site}>", 0)
        return self.atoms(slot, size)

    def play(self, slot: Slot, role: str) -> None:
        self._roles.setdefault(slot, set()).add(role)

    def role(self, slot: Slot) -> str:
        roles = self._roles.get(slot, set())
        return next((r for r in ("in", "out") if r in roles), "per")

    def tie(self, first: npt.ArrayLike, second: npt.ArrayLike, reason: str, site: Site) -> None:
        a, b = np.broadcast_arrays(np.asarray(first, dtype=np.int64), np.asarray(second, dtype=np.int64))
        a, b = np.divmod(_ordered(a.ravel() * self._end + b.ravel()), self._end)  # a pair as one number
        stuck = np.concatenate([a[b == 0], b[a == 0]])
        if stuck.size:
            self.freeze(stuck, f"{reason} joins it with channels that must stay", site)
        apart = (a != b) & (a != 0) & (b != 0)
        if apart.any():
            self.ties.append(Tie(a[apart], b[apart], reason, site))

    def add(self, fact: Tie | Freeze) -> None:
        if isinstance(fact, Tie):
            self.tie(fact.first, fact.second, fact.reason, fact.site)
        else:
            self.freeze(fact.atoms, fact.reason, fact.site)

    def freeze(self, atoms: npt.ArrayLike, reason: str, site: Site) -> None:
        found = _ordered(np.asarray(atoms, dtype=np.int64).ravel())
        found = found[found != 0]
        if found.size:
            self.freezes.append(Freeze(found, reason, site))

    def stays(self, atoms: IntArray) -> bool:
        """Whether all of these were frozen so far, one by one."""
        held = [f.atoms for f in self.freezes]
        return bool(held) and bool(np.isin(atoms, [0, *np.concatenate(held)]).all())

    def uniform(self, atoms: IntArray, reason: str, site: Site) -> None:
        if atoms.shape[0] > 1:
            self.uniforms.append(Uniform(atoms, reason, site))

    def statistic(self, atoms: npt.ArrayLike, comparable: bool = False) -> None:
        """A statistic runs over these atoms: removing them is not the same as zeroing them. ``comparable``: the
        operation is known, so that it can be repeated over some of them."""
        found = np.unique(np.asarray(atoms, dtype=np.int64))
        self.inexact.append(found)
        if not comparable:
            self.incomparable.append(found)

    @property
    def slots(self) -> Sequence[Slot]:
        return self._slots

    @property
    def n_atoms(self) -> int:
        """One more than the largest atom."""
        return self._end

    def atoms_of(self, other: Facts) -> IntArray:
        """For each atom of other facts about the same network the atom that stands here in its place, or 0."""
        found = np.zeros(other.n_atoms, dtype=np.int64)
        for slot in other.slots:
            theirs = other.atoms(slot)
            if slot in self._base_of and self._sizes[slot] == theirs.size:
                found[theirs] = self.atoms(slot)
        return found

    def slot_index(self, atoms: IntArray) -> IntArray:
        """For each atom, the position of its slot in ``slots``."""
        return np.searchsorted(np.asarray(self._bases), atoms, side="right") - 1

    def slots_of(self, atoms: IntArray) -> Iterator[Slot]:
        """The slots that hold some of these atoms, in order. Looks at few of the slots there are."""
        left = _ordered(atoms.ravel())
        left = left[left > 0]
        while left.size:
            i = bisect_right(self._bases, int(left[0])) - 1
            yield self._slots[i]
            left = left[np.searchsorted(left, self._bases[i] + self._sizes[self._slots[i]]) :]

    def classes(self, extra: tuple[Tie, ...] = ()) -> IntArray:
        """For each atom the number of its equivalence class (connected component of the ties)."""
        ties = [*self.ties, *extra]
        a = np.concatenate([t.first for t in ties] or [np.zeros(0, np.int64)])
        b = np.concatenate([t.second for t in ties] or [np.zeros(0, np.int64)])
        return np.unique(_least(self._end, a, b), return_inverse=True)[1].astype(np.int64).reshape(-1)


def _least(size: int, first: IntArray, second: IntArray) -> IntArray:
    """For each of ``size`` nodes the least one that these edges connect it with. Every round at least halves the number
    of trees; scipy's ``connected_components`` takes longer to import than this does for most networks."""
    least = np.arange(size, dtype=np.int64)
    while first.size:
        low, high = np.minimum(first, second), np.maximum(first, second)
        np.minimum.at(least, high, low)
        while (further := least[least]).tobytes() != least.tobytes():
            least = further
        first, second = least[first], least[second]
        apart = first != second
        first, second = first[apart], second[apart]
    return least
