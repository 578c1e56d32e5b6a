"""Ratios of layers that the user named: which widths they are of."""

from __future__ import annotations

from torch import nn

from ..costs import Budget
from ..errors import BudgetError, some
from ..graph import ChannelGraph, Width
from ..layer_words import layers_named, nearest


def own_ratios(budget: Budget | None, graph: ChannelGraph, model: nn.Module) -> tuple[dict[str, float], list[str]]:
    """The fraction to remove of every width with a layer that the budget's parts name, and what is worth a line: layers
    that go along though they aren't named. Raises BudgetError for words that name no layer with channels to remove, and
    for widths whose layers are given several ratios."""
    parts = budget.parts if budget is not None else ()
    makers = {w.name: _makers(w, graph) for w in graph.widths}
    layers = [layer for found in makers.values() for layer in found]
    of_layer: dict[str, tuple[str, float]] = {}
    for word, share in parts:
        named = layers_named(word, layers, model)
        if not named:
            hint = nearest(word, [layer for w in graph.widths for layer in w.producers], model)
            raise BudgetError(f"--ratio {word}={share:g}: there is no layer {word} whose channels could go{hint}")
        of_layer |= dict.fromkeys(named, (word, share))
    ratios, told = {}, []
    for width, found in makers.items():
        own = {layer: of_layer[layer] for layer in found if layer in of_layer}
        if len({share for _, share in own.values()}) > 1:
            (one, (a, x)), (other, (b, y)) = _different(own)
            raise BudgetError(
                f"--ratio {a}={x:g} and --ratio {b}={y:g}: {one} and {other} lose their channels together: give both "
                "the same"
            )
        if not own:
            continue
        word, ratios[width] = next(iter(own.values()))
        along = [layer for layer in found if layer not in own and layer not in graph.parts]
        if along:
            told.append(f"--ratio {word}={ratios[width]:g} is of {some(along)}, too: they go together")
    return ratios, told


def _makers(width: Width, graph: ChannelGraph) -> list[str]:
    """The layers that make its channels; of a number that counts several widths its own name, too."""
    return [*width.producers, *([width.name] if width.name in graph.parts else [])]


def _different(own: dict[str, tuple[str, float]]) -> list[tuple[str, tuple[str, float]]]:
    first = next(iter(own.items()))
    return [first, next(item for item in own.items() if item[1][1] != first[1][1])]
