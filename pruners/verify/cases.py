"""The cases that a bundle's file is held against: inputs, and what must come out.

Beside the user's network and the pruned one there is one copy at a time, changed in place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import TraceError, VerificationError
from ..graph import ChannelGraph, Kept
from ..run import as_it_was, call_arguments, examples_of, isolated, run, state_of, streams, take, training_batch, twin
from ..slicing import corrected
from ..weight_transfer import slice_state
from . import oracle
from .case import Case, State
from .finite import refuse_nan
from .further import further_cases, further_random_cases
from .outputs import fits_double, measured, outputs_of, runs_in_double, trains, varied
from .references import Found, Live, Whole
from .settings import settings
from .sizes import smaller


def cases(
    model: nn.Module,
    graph: ChannelGraph,
    kept: Kept,
    sliced: nn.Module,
    state: Mapping[str, Tensor] | None,
    example_input: Any,
    runs: bool = False,
    double: bool | None = None,
) -> list[Case]:
    """The bundle's own weights against the live pruned network, and random weights against the zeroed original.

    ``sliced``: the live pruned network, which is used up; ``runs``: its code holds no stale numbers. ``state``: its
    weights where they were trained on. ``example_input``: a list holds several examples. ``double``: in float64, or
    not; default: by the network's size.
    """
    examples = examples_of(example_input)
    inputs = varied(examples[0], 1, model)
    sliced.to(torch.device("cpu"))  # where the fresh process computes
    if state is not None:
        own_state = sliced.state_dict()
        own_state.update(state)  # keeps the versions of the live classes, which may read older ones otherwise
        sliced.load_state_dict(own_state)
    around = nullcontext if runs else lambda m: corrected(m, graph, kept)
    other, seed = random_model(model, inputs)
    random = slice_state(state_of(other), graph, kept)
    asked = fits_double(model) if double is None else double
    own, double = measured(sliced, inputs, asked and runs_in_double(other, [*smaller(inputs), inputs]), around)
    if asked and not double:
        other, _ = random_model(model, inputs, seed)  # as it was
    steps = None if streams(model) else training_batch(inputs)  # gradients of all weights may take more than there is
    first = Case("the bundle's weights", inputs, own, None, double, steps, partial(trains, model, steps))
    further = further_cases(graph, kept, sliced, examples, double, runs)
    live = Live(sliced, graph, kept, double, runs)
    whole = [Whole(other, graph, kept, double)]
    del other
    found = [first, *further, *_random_cases(whole, live, random, inputs, examples)]
    return [replace(c, streamed=True) for c in found] if streams(model) else found


def _random_cases(
    given: list[Whole], live: Live, state: State, inputs: Any, examples: Sequence[Any]
) -> list[Case]:
    """Random weights make every channel matter; what is removed then shows. ``given`` is emptied, as two networks are
    enough for the memory; ``state``: the weights of the pruned one.

    Wherever the original runs: the example, another batch, another size, in evaluation and in training. What can't be
    held against the zeroed original, and what draws random numbers, is held against the live pruned network.
    """
    whole = given.pop()
    found = list(settings(whole, inputs, live.runs))
    unsteady = next((f for f in found if f.setting.training and f.zeroed is not None), None)
    loose = whole.tolerance(unsteady) if unsteady else None
    del whole  # before the pruned network grows
    take(live.model, state)
    first = [c for f in found for c in _cases_at(f, live, state, loose)]
    made = [*first, *further_random_cases(live, examples, state, loose)]
    if not any(t.numel() for c in made for t in c.outputs or ()):
        raise VerificationError("this network can't be checked: with random weights its outputs are empty")
    return made


def _cases_at(found: Found, live: Live, state: State, loose: float | None) -> list[Case]:
    setting = found.setting
    case = partial(
        Case, inputs=setting.inputs, state=state, double=live.double, training=setting.training,
        tolerance=loose if setting.training else None,
    )  # fmt: skip
    name, made = f"random weights{setting.name}", []
    zeroed = None if setting.training and loose is None else found.zeroed
    if zeroed is not None:
        made.append(case(f"{name}, removed channels zeroed", outputs=zeroed, even_draws=True))
    if zeroed is None or found.drew:
        made.append(case(f"{name}, as in memory", outputs=live.outputs(setting)))
    return made


def refuse_unchecked(model: nn.Module, example_input: Any) -> None:
    """Raises TraceError, with file and line, for a network that gives NaN with its own weights and with random ones."""
    if streams(model):
        return
    inputs = varied(examples_of(example_input)[0], 1, model)
    try:
        with as_it_was(model):
            refuse_nan(model, inputs)
    except TraceError:
        random_model(model, inputs)


def random_model(model: nn.Module, inputs: Any, known: int | None = None) -> tuple[nn.Module, int]:
    """The original with random weights under which its output depends on its input: else a check says nothing. And the
    seed of these, which makes them again where it is ``known``."""
    other = twin(model).to(torch.device("cpu")).eval()
    small = smaller(inputs)
    calls = [partial(run, other, *call_arguments(training_batch(x))) for x in (*small, inputs)]
    for seed in range(8) if known is None else (known,):
        oracle.randomise(other, seed)
        with isolated.seeded(), isolated.without_traces(other):
            oracle.settle(other, calls)
        if known is not None:
            return other, seed
        for looked_at in small:  # costs less, where the network takes it
            with suppress(Exception):
                if _tells(other, looked_at, seed + 2):
                    return other, seed
        if _tells(other, inputs, seed + 2):
            return other, seed
    for double in (False, True):
        refuse_nan(other, inputs, double)
    raise VerificationError("this network can't be checked: with random weights its output doesn't depend on its input")


def _tells(model: nn.Module, inputs: Any, seed: int) -> bool:
    """Whether other inputs give other outputs. Of tokens some may be the same ones by chance, with one seed."""
    others = varied(inputs, seed, model)
    first, second = (outputs_of(model, x, False, draws=isolated.EvenDraws()) for x in (inputs, others))
    return len(first) != len(second) or any(_differ(a, b) for a, b in zip(first, second, strict=True))


def _differ(a: Tensor, b: Tensor) -> bool:
    """Also where there are more boxes than there, but not where there are none."""
    scale = float(a.double().abs().max()) if a.numel() else 0.0
    return scale > 0 and (a.shape != b.shape or float((a.double() - b.double()).abs().max()) > 1e-6 * scale)
