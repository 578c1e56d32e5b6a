"""``details.json``: what a report shows beside ``summary.json``. Layers with their costs, what goes together, and the
author's text of what was written anew."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..graph import ChannelGraph, Kept, Width, partners
from .facts import place

NAME = "details.json"
SCHEMA = 1


def details(
    graph: ChannelGraph, kept: Kept, kinds: Mapping[str, str], before: Mapping[str, tuple[int, int]],
    after: Mapping[str, tuple[int, int]], source: Sequence[Mapping[str, str]],
) -> bytes:  # fmt: skip
    """The bytes of ``details.json``.

    ``kept``: what stays of every width. ``kinds``: a module's path -> the name of its class. ``before`` and ``after``:
    parameters and MACs of every layer. ``source``: ``name``, ``file`` and ``text`` of what the author wrote.
    """
    layers = [
        {"name": name, "kind": kinds.get(name, ""), "params": [params, after[name][0]], "macs": [macs, after[name][1]]}
        for name, (params, macs) in before.items()
    ]
    widths = {w.name: _width(graph, w) for w in graph.widths}
    told = {
        "schema": SCHEMA, "layers": layers, "channels": _channels(graph, kept), "widths": widths, "source": list(source)
    }  # fmt: skip
    return (json.dumps(told, indent=1) + "\n").encode()


def _channels(graph: ChannelGraph, kept: Kept) -> dict[str, list[int]]:
    """How many channels every layer makes, before and after; a layer of several weights by the largest."""
    masks, found = graph.masks(kept), dict[str, list[int]]()
    for slot in (u.slot for w in graph.widths for u in w.uses if u.role == "out" and not u.slot.virtual):
        name, size = slot.layer or slot.parameter, graph.slot_size(slot)
        if size > found.get(name, [0])[0]:
            found[name] = [size, int(masks[slot].sum()) if slot in masks else size]
    return found


def _width(graph: ChannelGraph, width: Width) -> dict[str, Any]:
    """The layers of a width by what they do with its channels, and what ties them to the first that makes some."""
    layers: dict[str, list[str]] = {"out": [], "in": [], "per": []}
    for use in width.uses:
        name = use.slot.layer or use.slot.parameter
        if not use.slot.virtual and name not in layers[use.role]:
            layers[use.role].append(name)
    ties = [
        {"layer": p.layer, "role": p.role, "tie": p.tie, "to": p.to, "place": place(p.site)}
        for p in partners(graph, width) if p.tie
    ]  # fmt: skip
    return {**layers, "ties": ties}


def read_details(folder: Path) -> dict[str, Any]:
    """What a bundle's ``details.json`` holds; nothing where it has none, as bundles of before. Raises UsageError where
    it is damaged."""
    file = folder / NAME
    try:
        told = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{file} is damaged: {error}") from None
    if told and (not isinstance(told, dict) or told.get("schema") != SCHEMA):
        raise UsageError(f"{file} is damaged, or of another version: it doesn't say what a bundle's details say")
    return dict(told)
