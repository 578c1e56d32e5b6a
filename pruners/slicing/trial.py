"""A graph whose plans can be carried out: a trial plan is sliced before the graph is handed out.

Where the author's code can't follow the trial, what it counts there is made to follow or to stay: two widths that one
number counts are tied, and channels at a place that can't follow are frozen, by name, with file and line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn

from ..errors import NotPrunableError, StuckError
from ..graph import ChannelGraph, Facts, Freeze, Slot, Tie, Width
from ..places import Site
from ..run import (
    batch_size,
    call_arguments,
    copied,
    examples_of,
    larger_batch,
    larger_sizes,
    repeatable,
    run,
    tensors_in,
)
from ..trace import Tracer, observe
from .slice import slice_model


def workable(
    tracer: Tracer, model: nn.Module, example_input: Any, skip: Sequence[str] = (), ties: Sequence[Tie] = ()
) -> ChannelGraph:
    """The graph of a traced network after as many trials as it takes. ``ties``: facts beside those of the trace.

    What no tie and no freeze helps is left for the plan to meet: its slicing then says what is wrong.
    """
    held: dict[Site, str] = {}
    said: list[Tie | Freeze] = [*ties]
    for fact in said:
        tracer.facts.add(fact)
    elsewhere: list[tuple[int, Any, Tracer]] = []
    while True:
        graph = tracer.graph(elsewhere)
        if not graph.widths:
            return graph
        try:
            sliced = slice_model(model, graph, trial(graph), example_input)
            if not sliced.literals or elsewhere:
                return graph
            elsewhere = _elsewhere(model, example_input, skip, held, graph)
            if not elsewhere:
                return graph
        except StuckError as error:
            remedies = _remedies(error, graph, tracer.facts)
            if remedies:
                said += remedies
            elif error.site is not None and error.site.file and error.site not in held:
                held[error.site] = f"the code can't follow here: {error.reason}"
                before = tracer.facts
                tracer = observe(model, example_input, skip=skip, held=held)
                said = [_again(fact, tracer.facts.atoms_of(before)) for fact in said]
                elsewhere = _elsewhere(model, example_input, skip, held, tracer.graph()) if elsewhere else []
            else:
                return graph
        except NotPrunableError:
            return graph
        for fact in said:
            tracer.facts.add(fact)


def _elsewhere(
    model: nn.Module, example_input: Any, skip: Sequence[str], held: Mapping[Site, str], near: ChannelGraph
) -> list[tuple[int, Any, Tracer]]:
    """What a trace sees on a larger batch of each example and, where the network takes other sizes, on larger images or
    sequences: a number that differs there may not be written. ``near``: what it saw on the examples themselves."""
    found = []
    for number, example in enumerate(examples_of(example_input)):
        items = _items(copied(model).eval(), example)
        for ways in ([[larger_batch(example)]], larger_sizes(example)):
            seen = (_taken(model, inputs, items, skip, held, near) for inputs in ways)
            found += [(number, *taken) for taken in islice(filter(None, seen), 1)]
    return found


def _taken(
    model: nn.Module, several: Sequence[Any], items: Sequence[float], skip: Sequence[str], held: Mapping[Site, str],
    near: ChannelGraph,
) -> tuple[Any, Tracer] | None:  # fmt: skip
    """The first of several inputs that the network takes for what they are, and what a trace sees there.

    Where channels must stay that else may go, the network does something else there. So it is if it runs on some of the
    inputs only, by chance then: a table for 7 places times 7 has numbers for 14 times 14, of a quarter of the heads.
    """
    runs = []
    for other in several:
        try:
            if _items(copied(model).eval(), other) != items:
                continue
            seen = observe(copied(model), other, skip=skip, held=held)
        except (NotPrunableError, RuntimeError, ValueError, LookupError, TypeError, AssertionError):
            continue  # the network doesn't run on this
        if _slots(near) <= _slots(seen.graph()):
            return other, seen
        runs.append((other, seen))
    return runs[0] if len(runs) == len(several) else None


def _slots(graph: ChannelGraph) -> set[Slot]:
    """Where channels are that may go."""
    return {use.slot for width in graph.widths for use in width.uses}


def _items(model: nn.Module, inputs: Any) -> list[float]:
    """How many items of each output there are to an item of the batch. ``x.view(-1, 512)`` runs on larger images as
    well, but takes one for several."""
    with torch.no_grad(), repeatable():
        outputs = run(model, *call_arguments(inputs))
    return [t.shape[0] / batch_size(inputs) for t in tensors_in(outputs) if t.ndim]


def trial(graph: ChannelGraph) -> dict[str, np.ndarray]:
    """A third to two thirds of every width, another part of each, so that no two numbers are the same by chance."""
    kept: dict[str, np.ndarray] = {}
    random = np.random.default_rng(0)
    for number, width in enumerate(graph.widths):
        third = max(1, width.size // width.n_blocks // 3)
        counts = [third + (5 * number + more) % third for more in range(third)]
        counts += [c for c in (2 * third, third - 1) if 0 < c < width.size // width.n_blocks]
        taken = {k.size for k in kept.values()}
        count = next((c for c in counts if c * width.n_blocks not in taken), counts[0])
        blocks = [np.flatnonzero(width.block_of == place) for place in range(width.n_blocks)]
        kept[width.name] = np.sort(np.concatenate([random.permutation(here)[:count] for here in blocks]))
    return kept


def _remedies(error: StuckError, graph: ChannelGraph, facts: Facts) -> list[Tie | Freeze]:
    """Facts with which the trial would not have got stuck here; none where the widths concerned aren't known."""
    found = [graph.width(name) for name in dict.fromkeys(error.widths)]
    site = error.site or Site("", 0)
    if error.alike and len(found) > 1 and len({(w.size, w.n_blocks) for w in found}) == 1:
        first, *others = (_lead(w, facts) for w in found)
        return [Tie(first, other, "one number counts both", site) for other in others]
    return [Freeze(_lead(w, facts), error.reason, site) for w in found]


def _again(fact: Tie | Freeze, atoms: np.ndarray) -> Tie | Freeze:
    """The fact in another trace, which numbers atoms anew."""
    if isinstance(fact, Tie):
        return replace(fact, first=atoms[fact.first], second=atoms[fact.second])
    return replace(fact, atoms=atoms[fact.atoms])


def _lead(width: Width, facts: Facts) -> np.ndarray:
    """An atom of every group, in order."""
    use = width.uses[0]
    return facts.atoms(use.slot)[use.index[:, 0]]
