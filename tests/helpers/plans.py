"""Plans from plans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secateur.pruners.errors import PlanError
from secateur.pruners.graph import ChannelGraph
from secateur.pruners.plan import PruningPlan, WidthPlan, from_kept


def identity(graph: ChannelGraph, provenance: Mapping[str, Any] | None = None) -> PruningPlan:
    """The plan that keeps every channel of every width."""
    return from_kept(graph, {}, provenance)


def compose(first: PruningPlan, second: PruningPlan) -> PruningPlan:
    """One plan that does ``first``, then ``second``: indices of ``second`` count the channels ``first`` kept.

    ``kept[i] = first.kept[second.kept[i]]`` for every width. The provenance is the first's, because that says
    which source and weights the result applies to. Raises ``PlanError`` when names or sizes don't fit.
    """
    for here, there, name in ((first, second, "first"), (second, first, "second")):
        for lost in sorted(set(here.widths) - set(there.widths)):
            raise PlanError(f"width {lost!r} is in the {name} plan only; both must be made for the same network")
    widths = {}
    for name, start in first.widths.items():
        then = second.widths[name]
        if then.size != len(start.kept):
            raise PlanError(f"width {name!r}: the first plan keeps {len(start.kept)}, the second starts at {then.size}")
        widths[name] = WidthPlan(start.size, tuple(start.kept[i] for i in then.kept))
    return PruningPlan(widths, first.provenance)
