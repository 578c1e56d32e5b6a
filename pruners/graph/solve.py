"""From facts to widths: equivalence classes of atoms are groups, alike groups form a width."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import networkx as nx
import numpy as np

from ..places import Site
from .channel_graph import ChannelGraph
from .equivalence import Classes, find_classes
from .facts import SILENT, Facts, SiteCall, Tie
from .widths import (
    BoolArray,
    Contraction,
    CountedCall,
    Extent,
    FrozenChannels,
    IntArray,
    Operation,
    Pass,
    Positions,
    Slot,
    Use,
    Width,
)


def solve(
    facts: Facts,
    contractions: Sequence[tuple[Contraction, Sequence[IntArray]]] = (),
    aliases: Mapping[str, str] | None = None,
    calls: Sequence[SiteCall] = (),
    further: Sequence[tuple[Pass, Sequence[SiteCall]]] = (),
    unreached: Sequence[FrozenChannels] = (),
    readers: Mapping[Operation, IntArray] | None = None,
) -> ChannelGraph:
    """Build the channel graph from facts. ``calls``: those of a pass in eval mode; ``further``: more passes with
    theirs. ``readers``: operations that read channels without weights, and the atoms they read."""
    classes = find_classes(facts)
    widths = _widths(facts, classes)
    owners = _owners(facts, classes, widths)
    return ChannelGraph(
        widths=widths,
        frozen=(*_frozen(facts, classes), *unreached),
        shapes=dict(facts.shapes),
        contractions=_over(contractions, classes, widths, owners),
        network=_network(facts, widths),
        aliases=dict(aliases or {}),
        calls=_counted(classes, widths, owners, calls),
        further=tuple(replace(p, calls=_counted(classes, widths, owners, theirs)) for p, theirs in further),
        readers=_readers(classes, widths, owners, readers or {}),
    )


def _widths(facts: Facts, classes: Classes) -> tuple[Width, ...]:
    atoms = np.arange(1, facts.n_atoms, dtype=np.int64)
    cls = classes.of_atom[atoms]
    width = classes.width[cls]
    slot = facts.slot_index(atoms)
    statistics = np.zeros((2, int(classes.of_atom.max()) + 1), dtype=bool)
    for row, lists in enumerate((facts.inexact, facts.incomparable)):
        for found in lists:
            statistics[row, classes.of_atom[found]] = True
    drafts = []
    order = np.argsort(width, kind="stable")
    bounds = np.searchsorted(width[order], np.arange(width.max(initial=-1) + 2))
    for begin, end in pairwise(bounds):
        members = order[begin:end]
        if members.size:
            drafts.append(_width(facts, classes, atoms[members], slot[members], statistics))
    return tuple(_named(sorted(drafts, key=lambda d: d[0])))


def _width(
    facts: Facts, classes: Classes, atoms: IntArray, slot: IntArray, statistics: BoolArray
) -> tuple[tuple[int, int], Width]:
    """One width (still without a name) and its place: number of its first producing slot, first atom there."""
    cls = classes.of_atom[atoms]
    roles = {int(s): facts.role(facts.slots[int(s)]) for s in np.unique(slot)}
    real = [s for s in roles if not facts.slots[s].virtual]
    lead = min(real, key=lambda s: (roles[s] != "out", s))
    groups, first = np.unique(cls[slot == lead], return_index=True)
    groups = groups[np.argsort(atoms[slot == lead][first], kind="stable")]
    rank = np.empty(int(groups.max()) + 1, dtype=np.int64)
    rank[groups] = np.arange(groups.size)
    uses = []
    for s in sorted(roles):
        here = atoms[slot == s]
        row = rank[cls[slot == s]]
        name = facts.slots[s]
        if name.virtual:
            continue
        sort = np.lexsort((here, row))
        index = (here[sort] - facts.atoms(name)[0]).reshape(groups.size, -1)
        uses.append(Use(name, roles[s], index))
    block = classes.block[groups]
    width = Width(
        name="",
        size=groups.size,
        uses=tuple(uses),
        block_of=block,
        n_blocks=int(block.max()) + 1,
        exact=not bool(statistics[0, groups].any()),
        comparable=not bool(statistics[1, groups].any()),
    )
    return (lead, int(atoms[slot == lead].min())), width


def _named(drafts: list[tuple[tuple[int, int], Width]]) -> list[Width]:
    """Name every width by the first layer that produces it and that names no other."""
    used: set[str] = set()
    named = []
    for _, width in drafts:
        lead = sorted(width.uses, key=lambda u: u.role != "out")
        words = [u.slot.layer or u.slot.parameter for u in lead if u.role == "out"] or [
            lead[0].slot.layer or lead[0].slot.parameter
        ]
        name = next((w for w in words if w not in used), "")
        number = 2
        while not name:
            candidate = f"{words[0]}#{number}"
            name, number = ("" if candidate in used else candidate), number + 1
        used.add(name)
        named.append(replace(width, name=name))
    return named


def _frozen(facts: Facts, classes: Classes) -> tuple[FrozenChannels, ...]:
    out: dict[tuple[bytes, str, Site], FrozenChannels] = {}  # further passes find the same
    size = int(classes.of_atom.max()) + 1
    for freeze in classes.frozen_by:
        stuck = np.zeros(size, dtype=bool)
        stuck[classes.of_atom[freeze.atoms]] = True
        found = (np.packbits(stuck).tobytes(), freeze.reason, freeze.site)
        if found in out or freeze.reason == SILENT or not stuck.any():
            continue
        slots = tuple(s for s in facts.slots_of(np.flatnonzero(stuck[classes.of_atom])) if not s.virtual)
        if slots:
            out[found] = FrozenChannels(slots, int(stuck.sum()), freeze.reason, freeze.site)
    return tuple(dict.fromkeys(out.values()))


def _network(facts: Facts, widths: Sequence[Width]) -> nx.Graph:
    network: nx.Graph = nx.Graph()
    for slot in facts.slots:
        network.add_node(slot, kind="slot")
    for first, second, tie in _tied_slots(facts):
        network.add_edge(first, second, kind="tie", reason=tie.reason, site=tie.site)
    for width in widths:
        network.add_node(width.name, kind="width")
        for use in width.uses:
            network.add_edge(width.name, use.slot, kind="use", index=use.index, role=use.role)
    return network


def _tied_slots(facts: Facts) -> Iterator[tuple[Slot, Slot, Tie]]:
    """Pairs of different slots that a tie joins, each with the first tie that does."""
    if not facts.ties:
        return
    ends = np.cumsum([t.first.size for t in facts.ties])
    a = facts.slot_index(np.concatenate([t.first for t in facts.ties]))
    b = facts.slot_index(np.concatenate([t.second for t in facts.ties]))
    low, high = np.minimum(a, b), np.maximum(a, b)
    _, places = np.unique(low * len(facts.slots) + high, return_index=True)
    places = np.sort(places[a[places] != b[places]])
    owners = np.searchsorted(ends, places, side="right")
    slots = facts.slots
    for place, owner in zip(places, owners, strict=True):
        yield slots[int(a[place])], slots[int(b[place])], facts.ties[int(owner)]


def _owners(facts: Facts, classes: Classes, widths: Sequence[Width]) -> tuple[IntArray, IntArray]:
    """For each class the number of its width, or -1, and its group there."""
    group_of = np.full(int(classes.of_atom.max()) + 1, -1, dtype=np.int64)
    width_of = group_of.copy()
    for number, width in enumerate(widths):
        use = width.uses[0]
        cls = classes.of_atom[facts.atoms(use.slot)[use.index[:, 0]]]
        group_of[cls], width_of[cls] = np.arange(width.size), number
    return width_of, group_of


def _readers(
    classes: Classes,
    widths: Sequence[Width],
    owners: tuple[IntArray, IntArray],
    readers: Mapping[Operation, IntArray],
) -> dict[Operation, Positions]:
    found = {}
    for operation, atoms in readers.items():
        width_of, group_of = (o[classes.of_atom[atoms]] for o in owners)
        numbers, here = np.unique(width_of, return_inverse=True)
        lost = int((numbers < 0).sum())
        if numbers.size > lost:
            names = tuple(widths[int(n)].name for n in numbers[lost:])
            found[operation] = Positions(names, here.reshape(-1) - lost, group_of)
    return found


def _counted(
    classes: Classes, widths: Sequence[Width], owners: tuple[IntArray, IntArray], calls: Sequence[SiteCall]
) -> tuple[CountedCall, ...]:
    """Turn the atoms that a call counts into groups of widths."""
    return tuple(
        CountedCall(
            c.name,
            c.module,
            c.site,
            c.span,
            {path: _extent(a, classes, widths, owners) for path, a in c.counts.items()},
            dict(c.constants),
        )
        for c in calls
    )


def _over(
    contractions: Sequence[tuple[Contraction, Sequence[IntArray]]],
    classes: Classes,
    widths: Sequence[Width],
    owners: tuple[IntArray, IntArray],
) -> tuple[Contraction, ...]:
    """Contractions with the channels that their indices stand for, as far as those can go."""
    found = []
    for contraction, lines in contractions:
        extents = [_extent(line, classes, widths, owners) for line in lines]
        found.append(replace(contraction, over=tuple(e for e in extents if e.parts)))
    return tuple(found)


def _extent(
    atoms: IntArray, classes: Classes, widths: Sequence[Width], owners: tuple[IntArray, IntArray]
) -> Extent:
    width_of, group_of = owners
    cls = classes.of_atom[atoms]
    owner = width_of[cls]
    parts = tuple(
        (widths[int(w)].name, tuple(group_of[cls[owner == w]].tolist())) for w in np.unique(owner[owner >= 0])
    )
    return Extent(int((owner < 0).sum()), parts)
