"""Cases of the examples beside the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ..graph import ChannelGraph, Kept
from ..run import copied
from ..slicing import corrected
from .case import Case
from .outputs import fits_double, measured, varied


def further_cases(
    graph: ChannelGraph,
    kept: Kept,
    sliced: nn.Module,
    state: Mapping[str, Tensor] | None,
    examples: Sequence[Any],
) -> list[Case]:
    """The bundle's own weights against the live pruned network, on the second and later examples."""
    found: list[Case] = []
    if len(examples) < 2:
        return found
    live = copied(sliced)
    if state is not None:
        live.load_state_dict(state)
    for number, example in enumerate(examples[1:], 1):
        inputs = varied(example, 1)

        def around(model: nn.Module, number: int = number) -> Any:
            return corrected(model, graph, kept, number)

        outputs, double = measured(live, inputs, fits_double(live), around)
        found.append(Case(f"example {number + 1}", inputs, outputs, None, double))
    return found
