"""What a pruned network must compute: the original with the removed channels' consumer weights set to zero.

Some operations read channels without weights: see ``masking``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache, partial

import torch
from torch import Tensor, nn

from ..graph import BoolArray, ChannelGraph, Kept, Slot
from ..run import NormBase, Streamed, isolated


def zero(model: nn.Module, graph: ChannelGraph, kept: Kept) -> None:
    """Let nothing read the removed channels, in place."""
    state, streamed = model.state_dict(), dict(model.named_parameters())
    consumers = {u.slot for w in graph.widths for u in w.uses if u.role == "in"}
    for slot, mask in graph.masks(kept).items():
        parameter = streamed.get(slot.parameter)
        if slot in consumers and isinstance(parameter, Streamed):
            parameter.values = partial(_zeroed, parameter.values, graph, slot, mask)
        elif slot in consumers:
            weight = graph.laid_out(slot.parameter, state[slot.parameter])
            weight.mul_(_spread(weight, slot, mask))


def _zeroed(values: Callable[[], Tensor], graph: ChannelGraph, slot: Slot, mask: BoolArray) -> Tensor:
    found = values()
    weight = graph.laid_out(slot.parameter, found)
    weight.mul_(_spread(weight, slot, mask))
    return found


def _spread(weight: Tensor, slot: Slot, mask: BoolArray) -> Tensor:
    """The mask in the weight's shape; a grouped convolution has one list of inputs per block of rows."""
    kept = torch.from_numpy(mask).to(weight.device)
    if slot.blocks == 1:
        shape = [1] * weight.ndim
        shape[slot.dim] = -1
        return kept.view(shape).to(weight.dtype)
    rows = kept.view(slot.blocks, -1).repeat_interleave(weight.shape[0] // slot.blocks, 0)
    return rows.view(*rows.shape, *[1] * (weight.ndim - 2)).to(weight.dtype)


def exact(graph: ChannelGraph, kept: Kept) -> bool:
    """Whether removing equals zeroing: no statistic runs over channels of a width that loses some."""
    gone = set(graph.masks(kept))
    return all(w.comparable or not any(u.slot in gone for u in w.uses) for w in graph.widths)


def settle(model: nn.Module, calls: Iterable[Callable[[], object]]) -> None:
    """Give batch norms the statistics of what they read when the first of ``calls`` that can runs the model, a little
    more variance, in place.

    With statistics drawn at random a deep network multiplies its signal at every layer, and with it the rounding
    errors, until equal networks look different. A network that none of them can run keeps what it has.
    """
    norms = [m for m in model.modules() if isinstance(m, NormBase) and m.running_var is not None]
    momenta = [m.momentum for m in norms]
    try:
        for norm in norms:
            norm.momentum = 1.0
            norm.train()
        with torch.no_grad():
            for call in calls if norms else ():
                with suppress(Exception):
                    call()
                    break
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()
            assert norm.running_var is not None
            norm.running_var.mul_(1.1).add_(0.05)


def randomise(model: nn.Module, seed: int) -> None:
    """Give every parameter and batch-norm statistic a random value of sensible size, in place.

    A freshly built or zero-initialised network may compute almost nothing, and then every comparison succeeds.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    generator = torch.Generator(device).manual_seed(seed)
    with torch.no_grad():
        for number, module in enumerate(model.modules()):
            for name, p in module.named_parameters(recurse=False):
                if isinstance(p, Streamed):
                    p.values = partial(_new, tuple(p.shape), name, seed + 1000 * number)
                elif p.is_floating_point():
                    p.uniform_(*_range(tuple(p.shape), name), generator=generator)
            if isinstance(module, NormBase) and module.running_mean is not None:
                module.running_mean.uniform_(-0.5, 0.5, generator=generator)
                assert module.running_var is not None
                module.running_var.uniform_(0.5, 1.5, generator=generator)


def _range(shape: tuple[int, ...], name: str) -> tuple[float, float]:
    if len(shape) > 1:  # uniform with variance 2 / fan-in
        bound = (6 / max(1, math.prod(shape[1:]))) ** 0.5
        return -bound, bound
    return (0.5, 1.5) if name == "weight" else (-0.3, 0.7)


_DRAWN = 1_000_003  # a prime: no row of a matrix begins where another does


@cache
def _pool() -> Tensor:
    return torch.rand(_DRAWN, generator=torch.Generator().manual_seed(0)).repeat(2)


def _new(shape: tuple[int, ...], name: str, seed: int) -> Tensor:
    return drawn(shape, *_range(shape, name), seed)


def drawn(shape: tuple[int, ...], low: float, high: float, seed: int) -> Tensor:
    """Numbers between these: the same each time, of a million drawn once, again and again from another place on:
    drawing takes ten times as long."""
    found, pool, begin = isolated.room(shape).view(-1), _pool(), seed * 7919 % _DRAWN
    first = min(len(found), _DRAWN - begin)
    for piece, numbers in ((found[:first], pool[begin:]), *((p, pool) for p in found[first:].split(_DRAWN))):
        torch.add(low, numbers[: len(piece)], alpha=high - low, out=piece)
    return found.view(shape)
