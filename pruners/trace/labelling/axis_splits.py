"""Axes of channels that code lays over several axes: along which of them the channels then lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from ...graph import Facts, IntArray, prunable
from ...places import Site

Split = tuple[str, Site, int]  # module, place, and which of those made there


class Splits:
    """What is known about a network's splits; each pass over the network may teach more.

    At first the channels lie along the innermost axis, and every block loses the same ones (a channel shuffle). Where
    blocks have to go whole, as attention heads do, or where nothing can go otherwise (an image made of a vector),
    they lie further out.
    """

    def __init__(self) -> None:
        self._outwards: dict[Split, int] = {}  # how many axes from the innermost
        self._settled: set[Split] = set()  # nothing helps: the innermost again
        self.begin()

    def begin(self) -> None:
        """The passes begin anew."""
        self._lines: dict[Split, IntArray] = {}
        self.further()
        self._axes: dict[Split, int] = {}
        self._multiplied: list[IntArray] = []  # channels along which activations are

    def further(self) -> None:
        """A further pass begins, in which the same splits are made."""
        self._made: Counter[tuple[str, Site]] = Counter()

    def new(self, module: str, site: Site) -> Split:
        """The split that is being made: the n-th here."""
        return module, site, self._made[module, site]

    def axis(self, split: Split, axes: Sequence[int]) -> int:
        """Along which of these axes its channels lie."""
        return axes[-1 - min(self._outwards.get(split, 0), len(axes) - 1)]

    def made(self, split: Split, line: Tensor, axes: Sequence[int]) -> None:
        self._lines[split] = line.numpy().ravel()
        self._made[split[:2]] += 1
        self._axes[split] = len(axes)

    def want_whole(self, planes: Sequence[Tensor]) -> None:
        """Two activations are multiplied along these channels, or block by block: the splits that made them make
        heads."""
        atoms = np.concatenate([p.numpy().ravel() for p in planes] or [np.zeros(0, np.int64)])
        self._multiplied.append(np.unique(atoms[atoms != 0]))

    def _wanted(self, facts: Facts) -> set[Split]:
        """The splits of which each channel that can go goes with one along which activations are multiplied. Others
        stay where a part of each head is turned by positions. A split around them, as of keys and values in one, has
        several channels for each."""
        if not (self._lines and self._multiplied):
            return set()
        free, classes = prunable(facts), facts.classes()
        left = {split: classes[line[free[line]]] for split, line in self._lines.items()}
        beginning: dict[int, list[Split]] = {}
        for split, line in left.items():
            if line.size and len(np.unique(line)) == line.size:
                beginning.setdefault(int(line[0]), []).append(split)
        found: set[Split] = set()
        for atoms in self._multiplied:
            here = np.unique(classes[atoms])
            near = (split for number in here.tolist() for split in beginning.get(number, ()))
            found |= {split for split in near if np.isin(left[split], here).all()}
        return found

    def revise(self, facts: Facts) -> bool:
        """After a pass: whether another is needed, in which some channels lie further out."""
        heads = self._wanted(facts) - self._outwards.keys() - self._settled
        self._outwards |= dict.fromkeys(heads, 1)
        stuck = self._stuck(facts) if not heads else set()
        for split in (stuck - self._outwards.keys()) or stuck:
            further = self._outwards.get(split, 0) + 1
            if further < self._axes[split]:
                self._outwards[split] = further
            else:
                self._outwards.pop(split, None)
                self._settled.add(split)
        return bool(heads or stuck)

    def _stuck(self, facts: Facts) -> set[Split]:
        """The splits of which nothing can go, or all at once only, though layers make their channels."""
        lines = {s: line for s, line in self._lines.items() if s not in self._settled}
        if not lines:
            return set()
        free, classes = prunable(facts), facts.classes()
        left = {s: line for s, line in lines.items() if not free[line].any() or _one(classes[line])}
        return {split for split, line in left.items() if _made(facts, line)}


def _one(classes: IntArray) -> bool:
    return classes.size > 1 and bool((classes == classes[0]).all())


def _made(facts: Facts, line: IntArray) -> bool:
    """Whether a layer makes some of these: neither a table of positions nor a mask loses anything."""
    return any(facts.role(s) == "out" for s in facts.slots_of(line))
