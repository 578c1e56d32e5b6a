"""``app.py inspect``: widths, groups, what must stay and why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rich.console import RenderableType

from ..models import registry
from ..pruners.bundle import frozen_facts, place
from ..pruners.graph import ChannelGraph, Width, explain, why
from .cli import InspectOptions
from .network import network_from, new_pruner
from .show import Voice, table


def run(options: InspectOptions) -> None:
    if options.arch and not (options.data or options.input_shape or options.example):
        shape = registry.find(options.arch).input_shape  # no need to read images
        options = replace(options, input_shape=(shape,))
    with Voice(options.verbose, options.json) as voice:
        network = network_from(options, voice)
        graph = new_pruner(network, skip=options.skip, tied=options.tie_declared).graph
    if options.why:
        voice.result(why(graph, options.why), [_reason(r) for r in explain(graph, options.why)])
    else:
        voice.result(_tables(network.name, graph), _values(network.name, graph))


def constraints(width: Width) -> list[str]:
    """What a count of kept channels must obey, in words."""
    found = []
    if len(set(width.share_of)) > 1:
        found.append(f"{' : '.join(map(str, width.share_of))} in its {width.n_blocks} blocks")
    elif width.n_blocks > 1:
        found.append(f"equally many in each of {width.n_blocks} blocks")
    if not width.exact:
        found.append("a statistic is taken over it")
    return found


def together(width: Width) -> str:
    """The layers that lose channels together: producers, then what reads them."""
    return f"{', '.join(width.producers) or '-'} -> {', '.join(width.consumers) or '-'}"


def _values(name: str, graph: ChannelGraph) -> dict[str, Any]:
    widths = [
        {
            "name": w.name,
            "channels": w.size,
            "producers": list(w.producers),
            "consumers": list(w.consumers),
            "slots": sorted({str(u.slot) for u in w.uses if not u.slot.virtual}),
            "blocks": w.n_blocks,
            "constraints": constraints(w),
            **({"parts": dict(graph.parts[w.name])} if w.name in graph.parts else {}),
        }
        for w in graph.widths
    ]
    groups = sum(w.size for w in graph.widths)
    return {"schema": 1, "network": name, "widths": widths, "groups": groups, "frozen": frozen_facts(graph)}


def _tables(name: str, graph: ChannelGraph) -> list[RenderableType]:
    groups = sum(w.size for w in graph.widths)
    widths = table(
        f"{name}: {len(graph.widths)} widths, {groups} groups", "width", "#channels", "go together", "constraints"
    )
    for w in graph.widths:
        layers = together(w) if w.name not in graph.parts else f"in {len(graph.parts[w.name])} layers, below"
        widths.add_row(w.name, str(w.size), layers, "; ".join(constraints(w)))
    parts: list[RenderableType] = [_parts(graph, graph.apart), ""] if graph.apart is not None else []
    stays = table("what stays", "layers", "#channels", "because of", "at")
    for item in frozen_facts(graph):
        stays.add_row(", ".join(item["layers"]), str(item["channels"]), item["reason"], item["place"])
    return [widths, "", *parts, stays]


def _parts(graph: ChannelGraph, apart: ChannelGraph) -> RenderableType:
    """The widths of layers that one number counts."""
    each = {w.name: w for w in apart.widths}
    found = table("layers that these numbers count", "width", "#channels", "go together", "counted by")
    for name, members in graph.parts.items():
        for member, size in members:
            found.add_row(member, str(size), together(each[member]), name)
    return found


def _reason(reason: Any) -> dict[str, Any]:
    partners = [
        {"layer": p.layer, "role": p.role, "tie": p.tie, "to": p.to, "at": place(p.site)} for p in reason.partners
    ]
    return {
        "axis": reason.axis,
        "slot": str(reason.slot),
        "channels": reason.count,
        "width": reason.width,
        "partners": partners,
        "frozen": reason.frozen,
        "at": place(reason.site),
    }
