"""The stages of a network: widths that follow each other and work at one resolution."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction
from itertools import groupby, pairwise

from ..graph import ChannelGraph, Width

FEWEST, MOST = 4, 8
"""A Gaussian process over more dimensions suggests no better than chance does."""

Stage = tuple[str, ...]


def in_run_order(graph: ChannelGraph) -> list[Width]:
    """The widths in the order of their first producer in the network's run."""
    return sorted(graph.widths, key=lambda width: _first(graph, width))


def stages(graph: ChannelGraph) -> list[Stage]:
    """The names of the widths in the order of the run, in 4 to 8 stages; one width each where there are fewer.

    The resolution of a width is the number of positions per image that its first producer works at.
    """
    at: defaultdict[str, Fraction] = defaultdict(Fraction)  # of a packed weight, parts are contracted one by one
    for contraction in graph.contractions:
        at[contraction.parameter] += graph.positions(contraction)
    widths = in_run_order(graph)
    places = [_first(graph, width) for width in widths]
    parameters = [c.parameter for c in graph.contractions]
    resolutions = [at[parameters[place]] if place < len(parameters) else Fraction(0) for place in places]
    return grouped([w.name for w in widths], resolutions)


def grouped(names: Sequence[str], resolutions: Sequence[Fraction | int]) -> list[Stage]:
    """Runs of one resolution. While there are more than 8, the two neighbours that are smallest together are joined;
    where there are fewer than 4, the longest are split evenly."""
    levels = _without_squeezes(resolutions)
    numbered = groupby(range(len(names)), key=lambda i: levels[i])
    runs = [tuple(names[i] for i in run) for _, run in numbered]
    while len(runs) > MOST:
        i = min(range(len(runs) - 1), key=lambda i: len(runs[i]) + len(runs[i + 1]))
        runs[i : i + 2] = [runs[i] + runs[i + 1]]
    pieces = [1] * len(runs)
    while sum(pieces) < min(FEWEST, len(names)):
        longest = max(range(len(runs)), key=lambda i: len(runs[i]) / pieces[i])
        pieces[longest] += 1
    return [part for run, n in zip(runs, pieces, strict=True) for part in _split(run, n)]


def _without_squeezes(resolutions: Sequence[Fraction | int]) -> list[Fraction | int]:
    """A single width between two of higher resolution, as in squeeze and excitation, belongs to the one before it."""
    found = list(resolutions)
    for i in range(1, len(found) - 1):
        if found[i] < min(found[i - 1], found[i + 1]):
            found[i] = found[i - 1]
    return found


def _split(run: Stage, pieces: int) -> list[Stage]:
    bounds = [len(run) * i // pieces for i in range(pieces + 1)]
    return [run[start:end] for start, end in pairwise(bounds)]


def _first(graph: ChannelGraph, width: Width) -> int:
    """The place of a width's first producer among the contractions, or their number if it has none."""
    made = {use.slot.parameter for use in width.uses if use.role == "out"}
    places = (i for i, c in enumerate(graph.contractions) if c.parameter in made)
    return next(places, len(graph.contractions))
