"""What a pruned network must compute: the original with the removed channels' consumer weights set to zero.

Some operations read channels without weights: see ``masking``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor, nn

from ..graph import BoolArray, ChannelGraph, Kept, Slot
from ..run import NormBase


def zero(model: nn.Module, graph: ChannelGraph, kept: Kept) -> None:
    """Let nothing read the removed channels, in place."""
    state = model.state_dict()
    consumers = {u.slot for w in graph.widths for u in w.uses if u.role == "in"}
    for slot, mask in graph.masks(kept).items():
        if slot in consumers:
            weight = graph.laid_out(slot.parameter, state[slot.parameter])
            weight.mul_(_spread(weight, slot, mask))


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


def settle(model: nn.Module, call: Callable[[], object]) -> None:
    """Give batch norms the statistics of what they read when ``call`` runs the model, a little more variance, in place.

    With statistics drawn at random a deep network multiplies its signal at every layer, and with it the rounding
    errors, until equal networks look different. A network that ``call`` can't run keeps what it has.
    """
    norms = [m for m in model.modules() if isinstance(m, NormBase) and m.running_var is not None]
    momenta = [m.momentum for m in norms]
    try:
        for norm in norms:
            norm.momentum = 1.0
            norm.train()
        with torch.no_grad(), suppress(Exception):
            if norms:
                call()
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

    def draw(tensor: Tensor, low: float, high: float) -> None:
        tensor.uniform_(low, high, generator=generator)

    with torch.no_grad():
        for module in model.modules():
            for name, p in module.named_parameters(recurse=False):
                if not p.is_floating_point():
                    continue
                if p.ndim > 1:  # uniform with variance 2 / fan-in
                    bound = (6 / max(1, p[0].numel())) ** 0.5
                    draw(p, -bound, bound)
                else:
                    draw(p, *((0.5, 1.5) if name == "weight" else (-0.3, 0.7)))
            if isinstance(module, NormBase) and module.running_mean is not None:
                draw(module.running_mean, -0.5, 0.5)
                assert module.running_var is not None
                draw(module.running_var, 0.5, 1.5)
