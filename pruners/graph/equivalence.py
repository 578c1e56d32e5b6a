"""Equivalence classes of atoms: which channels can only go together, which can't go, and which are alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..places import NOWHERE
from .facts import Facts, Freeze, Tie
from .widths import BoolArray, IntArray

_UNREAD = "no layer reads these channels"
_UNMADE = "no layer makes these channels"


@dataclass(frozen=True)
class Classes:
    """Every atom's class, every class's width (-1: frozen) and, where blocks must stay equal, its block."""

    of_atom: IntArray
    width: IntArray
    block: IntArray
    frozen_by: tuple[Freeze, ...]


def prunable(facts: Facts) -> BoolArray:
    """For each atom whether it is a channel of some width."""
    classes = find_classes(facts)
    found: BoolArray = classes.width[classes.of_atom] >= 0
    return found


def find_classes(facts: Facts) -> Classes:
    """Classes and widths for which every uniformity constraint holds, or is made to hold by a coarser tie.

    Equal counts per block are kept as a constraint of the width where all blocks look alike; elsewhere the
    j-th channels of all blocks are tied, which is always sound.
    """
    extra: list[Tie] = []
    freezes = [*facts.freezes]
    while True:
        of_atom = facts.classes(tuple(extra))
        loose = [_unread(facts, of_atom, freezes), _unmade(facts, of_atom, freezes)]
        width = _signatures(facts, of_atom, [*freezes, *loose])
        block = np.zeros(width.size, dtype=np.int64)
        taken: dict[int, int] = {}
        settled = True
        for number, fact in enumerate(facts.uniforms):
            cls = of_atom[fact.atoms]
            if bool((cls == cls[0]).all()):
                continue
            if (width[cls] < 0).any():
                if not (width[cls] < 0).all():
                    reason = f"{fact.reason}, and a part of it must stay"
                    freezes.append(Freeze(np.unique(fact.atoms), reason, fact.site))
                    settled = False
            elif not _blocks(cls, width, block, taken, number):
                first = np.broadcast_to(fact.atoms[0], fact.atoms.shape)
                extra.append(Tie(first.ravel(), fact.atoms.ravel(), fact.reason, fact.site))
                settled = False
            if not settled:
                break
        if settled:
            return Classes(of_atom, width, block, (*freezes, *loose))


def _blocks(cls: IntArray, width: IntArray, block: IntArray, taken: dict[int, int], number: int) -> bool:
    """Note the block of each class if every row holds as many classes of each width, and each class one row."""
    rows = np.broadcast_to(np.arange(cls.shape[0])[:, None], cls.shape)
    found, first, counts = np.unique(cls.ravel(), return_index=True, return_counts=True)
    if (counts != counts[0]).any():
        return False
    row_of = rows.ravel()[first]
    if not bool((row_of[np.searchsorted(found, cls)] == rows).all()):
        return False
    members = width[found]
    for w in np.unique(members):
        here = row_of[members == w]
        if (np.bincount(here, minlength=cls.shape[0]) != here.size // cls.shape[0]).any() or here.size == 0:
            return False
        if (np.flatnonzero(width == w).size) != here.size:
            return False
        if int(w) in taken and not np.array_equal(block[found[members == w]], here):
            return False
    block[found] = row_of
    taken.update({int(w): number for w in np.unique(members)})
    return True


def _unread(facts: Facts, of_atom: IntArray, freezes: Sequence[Freeze]) -> Freeze:
    """Channels that no layer consumes: they may leave the network unseen, so they stay."""
    read = np.zeros(int(of_atom.max()) + 1, dtype=bool)
    for freeze in freezes:
        read[of_atom[freeze.atoms]] = True  # they stay for a better reason
    for slot in facts.slots:
        if facts.role(slot) == "in":
            read[of_atom[facts.atoms(slot)]] = True
    atoms = np.flatnonzero(~read[of_atom])
    return Freeze(atoms[atoms != 0], _UNREAD, NOWHERE)


def _unmade(facts: Facts, of_atom: IntArray, freezes: Sequence[Freeze]) -> Freeze:
    """Channels that only a buffer holds, such as a table of coordinates: data, not width."""
    made = np.zeros(int(of_atom.max()) + 1, dtype=bool)
    for freeze in freezes:
        made[of_atom[freeze.atoms]] = True
    for slot in facts.slots:
        if slot.parameter not in facts.buffers and facts.role(slot) != "in":
            made[of_atom[facts.atoms(slot)]] = True
    atoms = np.flatnonzero(~made[of_atom])
    return Freeze(atoms[atoms != 0], _UNMADE, NOWHERE)


def _signatures(facts: Facts, of_atom: IntArray, freezes: Sequence[Freeze]) -> IntArray:
    """For each class the number of its width: classes with equal counts in every stored slot are alike."""
    n_classes = int(of_atom.max()) + 1
    atoms = np.arange(1, facts.n_atoms, dtype=np.int64)
    slot = facts.slot_index(atoms)
    random = np.random.default_rng(0).integers(1, 2**63, size=max(1, len(facts.slots)), dtype=np.uint64)
    random[[i for i, s in enumerate(facts.slots) if s.virtual]] = 0
    signature = np.zeros(n_classes, dtype=np.uint64)
    np.add.at(signature, of_atom[atoms], random[slot])
    stuck = np.zeros(n_classes, dtype=bool)
    stuck[of_atom[0]] = True
    for freeze in freezes:
        stuck[of_atom[freeze.atoms]] = True
    width = np.unique(signature, return_inverse=True)[1].astype(np.int64).reshape(-1)
    width[stuck | (signature == 0)] = -1
    return width
