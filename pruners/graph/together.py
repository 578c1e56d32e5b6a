"""Widths that one number counts, such as the ``intermediate_size`` of all layers of a transformer: each keeps channels
of its own, as many as the others or in proportion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from .channel_graph import ChannelGraph
from .widths import FrozenChannels, Width


def together(
    graph: ChannelGraph, numbers: Mapping[str, Mapping[str, int]], frozen: Sequence[FrozenChannels] = ()
) -> ChannelGraph:
    """The graph with one width for each number: its name, and for every width that it counts how many groups go
    together. ``frozen``: widths that no number counts, with the reason; they are no widths here.

    Raises ValueError where the widths of a number don't come to an end together.

    >>> from secateur.pruners.trace import trace
    >>> graph = trace(network, example)                                                         # doctest: +SKIP
    >>> together(graph, {"hidden": {"layers.0.fc1": 1, "layers.1.fc1": 1}}).width("hidden").step  # doctest: +SKIP
    2
    """
    widths = {w.name: w for w in graph.widths}
    merged = tuple(_merged(name, [(widths[w], n) for w, n in shares.items()]) for name, shares in numbers.items())
    parts = {name: tuple((w, widths[w].size) for w in shares) for name, shares in numbers.items()}
    return replace(graph, widths=merged, frozen=(*graph.frozen, *frozen), apart=graph, parts=parts)


def _merged(name: str, members: Sequence[tuple[Width, int]]) -> Width:
    """The groups of all members, one after the other."""
    shares, places = list[int](), list[int]()
    block_of: list[np.ndarray] = []
    for width, number in members:
        share, left = divmod(number, width.n_blocks)
        if left or width.size * members[0][1] != members[0][0].size * number:
            raise ValueError(f"{name}: {width.name} has {width.size} groups, of which {number} can't go at a time")
        block_of.append(width.block_of + len(shares))
        shares += [share] * width.n_blocks
        places += [min(u.index.shape[1] for u in width.uses)] * width.n_blocks
    return Width(
        name=name,
        size=sum(w.size for w, _ in members),
        uses=tuple(u for w, _ in members for u in w.uses),
        block_of=np.concatenate(block_of),
        n_blocks=len(shares),
        exact=all(w.exact for w, _ in members),
        comparable=all(w.comparable for w, _ in members),
        shares=tuple(shares),
        places=tuple(places),
    )
