"""Why channels go together or must stay, in words: for people at a terminal and, as values, for ``--json``."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import networkx as nx

from ..errors import UsageError
from ..places import NOWHERE, Site
from .widths import FrozenChannels, Slot, Width


class Explained(Protocol):
    """What is asked of a ``ChannelGraph``."""

    @property
    def widths(self) -> tuple[Width, ...]: ...
    @property
    def frozen(self) -> tuple[FrozenChannels, ...]: ...
    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]: ...
    @property
    def network(self) -> nx.Graph: ...


@dataclass(frozen=True)
class Partner:
    """Another layer whose channels go along: ``tie`` (an operation, at ``site``) joins it to the layer ``to``."""

    layer: str
    role: str
    tie: str
    to: str
    site: Site


@dataclass(frozen=True)
class Reason:
    """What becomes of the channels on one axis of a layer.

    ``axis``: "output channels", "input channels" or "channels". ``width`` is None for channels that must stay;
    then ``frozen`` says why, with the place.
    """

    axis: str
    slot: Slot
    count: int
    width: str | None
    partners: tuple[Partner, ...] = ()
    frozen: str = ""
    site: Site = NOWHERE


def explain(graph: Explained, layer: str) -> tuple[Reason, ...]:
    """Every axis of a layer's main tensor: which width it belongs to, or why it stays. Raises UsageError for an
    unknown layer, with the closest name."""
    slots = _slots(graph, layer)
    reasons = [_in_width(graph, slot, width) for slot in slots for width in graph.widths if _uses(width, slot)]
    for frozen in graph.frozen:
        for slot in frozen.slots:
            if slot in slots:
                reasons.append(Reason(_axis(graph, slot), slot, frozen.count, None, (), frozen.reason, frozen.site))
    return tuple(reasons)


def partners(graph: Explained, width: Width) -> tuple[Partner, ...]:
    """The other layers of a width than the first one that makes its channels, each with what ties it to them."""
    first = next((u.slot for u in width.uses if u.role == "out"), width.uses[0].slot)
    return _in_width(graph, first, width).partners


def why(graph: Explained, layer: str) -> str:
    """``explain`` as text."""
    lines = []
    for reason in explain(graph, layer):
        if reason.width is None:
            lines.append(f"{layer}: {reason.axis} must stay: {reason.frozen}{_at(reason.site)}")
            continue
        lines.append(f"{layer}: {reason.count} {reason.axis} belong to the width {reason.width}; with them go")
        wide = max((len(f"{p.role} {p.layer}") for p in reason.partners), default=0)
        for p in reason.partners:
            tie = f"{p.tie} {p.to}{_at(p.site)}" if p.tie else ""
            lines.append(f"    {f'{p.role} {p.layer}':<{wide}}   {tie}".rstrip())
    return "\n".join(lines) or f"{layer}: no channels of this layer can be pruned, and none were seen"


def _slots(graph: Explained, layer: str) -> list[Slot]:
    known = [n for n, d in graph.network.nodes(data=True) if d["kind"] == "slot" and not n.virtual]
    known += [s for f in graph.frozen for s in f.slots if s not in graph.network]
    found = [s for s in known if layer in (s.layer, s.parameter)]
    if not found:
        close = difflib.get_close_matches(layer, sorted({s.layer for s in known}), 1)
        raise UsageError(f"there is no layer {layer}" + (f"; did you mean {close[0]}?" if close else ""))
    weights = [s for s in found if len(graph.shapes[s.parameter]) > 1]
    return sorted(weights or found[:1])


def _uses(width: Width, slot: Slot) -> bool:
    return any(u.slot == slot for u in width.uses)


def _axis(graph: Explained, slot: Slot) -> str:
    roles = {u.role for w in graph.widths for u in w.uses if u.slot == slot}
    if "out" in roles or (not roles and slot.dim == 0 and len(graph.shapes[slot.parameter]) > 1):
        return "output channels"
    return "input channels" if "in" in roles or (not roles and slot.dim == 1) else "channels"


_VERBS = {"read by": "reads", "bias": "is added to"}


def _in_width(graph: Explained, slot: Slot, width: Width) -> Reason:
    """The width's other layers, each with the tie that leads there on the shortest way from this slot."""
    ties = nx.subgraph_view(graph.network, filter_edge=lambda a, b: graph.network.edges[a, b]["kind"] == "tie")
    before = {to: start for start, to in nx.bfs_edges(ties, slot)}
    partners, seen = [], {slot.layer}
    for use in width.uses:
        other = use.slot
        if other.layer in seen or use.role == "per":
            continue
        seen.add(other.layer)
        role = "outputs of" if use.role == "out" else "inputs of"
        tie, to, site = "", "", NOWHERE
        if other in before:  # else tied by a merge that is not one operation
            edge = ties.edges[before[other], other]
            reason = edge["reason"]
            tie = _VERBS.get(reason, f"{reason} with") if use.role == "in" or reason != "read by" else "feeds"
            to, site = before[other].layer, edge["site"]
        partners.append(Partner(other.layer or other.parameter, role, tie, to, site))
    return Reason(_axis(graph, slot), slot, width.size, width.name, tuple(partners))


def _at(site: Site) -> str:
    return f" at {_short(site.file)}:{site.line}" if site.file else ""


def _short(file: str) -> str:
    path = Path(file)
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
