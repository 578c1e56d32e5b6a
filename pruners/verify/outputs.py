"""Outputs of a network in memory, for the fresh process to match, and whether it trains."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import VerificationError
from ..run import as_it_was, call_arguments, copied, run, tree_leaves, tree_map
from ..run import isolated as fresh

_DOUBLE_UP_TO = 200_000_000  # parameters; a larger network is compared in float32, for want of memory

Around = Callable[[nn.Module], AbstractContextManager[Any]]


def outputs_of(
    model: nn.Module,
    inputs: Any,
    double: bool,
    around: Around = nullcontext,
    training: bool = False,
    draws: fresh.EvenDraws | None = None,
) -> tuple[Tensor, ...]:
    """The model's outputs; it keeps its buffers and attributes, and is left in float64 if that is asked.

    ``around``: a context for the run, given the model. Random numbers start anew; ``draws``: how they are drawn.
    """
    model.train(training)
    if double:
        model.double()
        inputs = fresh.as_double(inputs)
    with torch.no_grad(), ExitStack() as stack:
        stack.enter_context(fresh.buffers_restored(model))
        stack.enter_context(fresh.without_traces(model))
        stack.enter_context(fresh.seeded())
        stack.enter_context(fresh.widely(double))
        stack.enter_context(draws or nullcontext())
        stack.enter_context(around(model))
        out = run(model, *call_arguments(inputs))
    found = tuple(t.detach().clone() for t in fresh.tensors_in(out))
    if fresh.streams(model) and any(bool(t.isnan().any()) for t in found):
        raise VerificationError("outputs are NaN: weights may be read where the module that they belong to doesn't run")
    return found


def fits_double(model: nn.Module) -> bool:
    """Whether a network is small enough to be compared in float64."""
    return sum(p.numel() for p in model.parameters()) <= _DOUBLE_UP_TO


def measured(
    model: nn.Module, inputs: Any, double: bool, around: Around = nullcontext
) -> tuple[tuple[Tensor, ...], bool]:
    """The model's outputs in eval mode, and whether they are in float64. The model keeps its weights.

    Float32 where ``double`` is False, and where its code makes float32 tensors of its own and so can't run in float64.
    """
    if double:
        with suppress(RuntimeError):
            return outputs_of(copied(model), inputs, True, around), True
    return outputs_of(model, inputs, False, around), False


def runs_in_double(model: nn.Module, candidates: Iterable[Any]) -> bool:
    """Whether the network runs in float64 on the first of these inputs that it takes; it is used up."""
    for inputs in candidates:
        with suppress(Exception):  # it may not take this size, or make float32 tensors of its own
            outputs_of(model, inputs, True)
            return True
    return False


def trains(model: nn.Module, inputs: Any) -> bool:
    """Whether a copy of the network can take a training step."""
    with torch.random.fork_rng(devices=[]):
        return not fresh.train_step(copied(model).to(torch.device("cpu")), inputs)


def varied(inputs: Any, seed: int, model: nn.Module | None = None) -> Any:
    """Random inputs of the same shapes; integers (token numbers) are shuffled, not invented.

    ``model``: what it refuses, or makes NaN of, is drawn less freely: lengths that must be sorted, corners of boxes,
    images between 0 and 1.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(t: Any) -> Any:
        if not isinstance(t, Tensor):
            return t
        if t.is_floating_point():
            return torch.randn(t.shape, generator=generator, dtype=torch.float64).to(t.dtype)
        return _shuffled(t, generator)

    drawn = tree_map(draw, inputs)
    return drawn if model is None or _takes(model, drawn, inputs) else _as_taken(model, inputs, drawn, generator)


def _shuffled(tensor: Tensor, generator: torch.Generator) -> Tensor:
    return tensor.reshape(-1)[torch.randperm(tensor.numel(), generator=generator)].reshape(tensor.shape)


def _takes(model: nn.Module, inputs: Any, given: Any) -> bool:
    """Whether the model runs on these, with numbers for outputs, unless it has none for those that the user gave."""
    try:
        with as_it_was(model):
            finite = all(bool(t.isfinite().all()) for t in outputs_of(model, inputs, False))
        return finite or (inputs is not given and not _takes(model, given, given))
    except Exception:  # the author's code may raise anything
        return False


def _as_taken(model: nn.Module, given: Any, drawn: Any, generator: torch.Generator) -> Any:
    """The given inputs with each tensor in turn drawn, or else shuffled, or else a little smaller, if that runs."""
    if not _takes(model, given, given):  # its numbers are to be put right, or it computes elsewhere
        return drawn
    leaves = list(tree_leaves(given))

    def filled() -> Any:
        rest = iter(leaves)
        return tree_map(lambda _: next(rest), given)

    for place, (old, new) in enumerate(zip(list(leaves), tree_leaves(drawn), strict=True)):
        if not isinstance(old, Tensor):
            continue
        for value in (new, _shuffled(old, generator), *([0.875 * old] if old.is_floating_point() else [])):
            leaves[place] = value
            if not torch.equal(value, old) and _takes(model, filled(), given):
                break
        else:
            leaves[place] = old
    return filled()
