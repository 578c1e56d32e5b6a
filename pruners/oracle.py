"""What a pruned network must compute: the original with the removed channels' consumer weights set to zero.

Some operations read channels without weights: in a product of two activations the removed ones are masked, and a norm
takes its statistics over those that are kept.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from pruners.channel_graph import BoolArray, ChannelGraph, Operation, Slot
from pruners.fresh import without_compiler


def zeroed(model: nn.Module, graph: ChannelGraph, kept: Mapping[str, npt.ArrayLike]) -> nn.Module:
    """A copy of the model in which nothing reads the removed channels."""
    masked = copy.deepcopy(model)
    zero(masked, graph, kept)
    return masked


def zero(model: nn.Module, graph: ChannelGraph, kept: Mapping[str, npt.ArrayLike]) -> None:
    """Let nothing read the removed channels, in place."""
    state = model.state_dict()
    consumers = {u.slot for w in graph.widths for u in w.uses if u.role == "in"}
    for slot, mask in graph.masks(kept).items():
        if slot in consumers:
            state[slot.parameter].mul_(_spread(state[slot.parameter], slot, mask))


def _spread(weight: Tensor, slot: Slot, mask: BoolArray) -> Tensor:
    """The mask in the weight's shape; a grouped convolution has one list of inputs per block of rows."""
    kept = torch.from_numpy(mask).to(weight.device)
    if slot.blocks == 1:
        shape = [1] * weight.ndim
        shape[slot.dim] = -1
        return kept.view(shape).to(weight.dtype)
    rows = kept.view(slot.blocks, -1).repeat_interleave(weight.shape[0] // slot.blocks, 0)
    return rows.view(*rows.shape, *[1] * (weight.ndim - 2)).to(weight.dtype)


def exact(graph: ChannelGraph, kept: Mapping[str, npt.ArrayLike]) -> bool:
    """Whether removing equals zeroing: no statistic runs over channels of a width that loses some."""
    gone = set(graph.masks(kept))
    return all(w.comparable or not any(u.slot in gone for u in w.uses) for w in graph.widths)


@contextmanager
def masking(graph: ChannelGraph, kept: Mapping[str, npt.ArrayLike]) -> Iterator[None]:
    """Within this block the original runs once, and no operation reads removed channels."""
    masks = {operation: positions.mask(kept) for operation, positions in graph.readers.items()}
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), _Masking({k: torch.from_numpy(m) for k, m in masks.items() if not m.all()}):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


class _Masking(TorchDispatchMode):
    """Counts operations as the tracer does."""

    def __init__(self, masks: Mapping[Operation, Tensor]) -> None:
        super().__init__()
        self._masks = masks
        self._ran: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        mask = self._masks.get((name, self._ran[name]))
        self._ran[name] += 1
        if mask is None:
            return func(*args, **(kwargs or {}))
        if name == "native_layer_norm":
            return _layer_norm(mask.to(args[0]), *args)
        if name == "native_group_norm":
            return _group_norm(mask.to(args[0]), *args)
        place = len(args) - 2  # (left, right) or (added, left, right)
        left = args[place]
        return func(*args[:place], left * mask.to(left), *args[place + 1 :], **(kwargs or {}))


without_compiler(_Masking)


def _layer_norm(mask: Tensor, x: Tensor, shape: Any, weight: Tensor | None, bias: Tensor | None, eps: float) -> Any:
    centred, deviation = _normalised(x, mask, -1, eps)
    out = centred if weight is None else centred * weight
    return (out if bias is None else out + bias), deviation, deviation


def _group_norm(mask: Tensor, x: Tensor, weight: Tensor | None, bias: Tensor | None, *sizes: Any) -> Any:
    n, c, positions, groups, eps = sizes
    spread = mask.view(1, groups, -1, 1).expand(n, groups, c // groups, positions).reshape(n, groups, -1)
    centred, deviation = _normalised(x.reshape(n, groups, -1), spread, -1, eps)
    out, shape = centred.reshape(x.shape), (1, c, *[1] * (x.ndim - 2))
    out = out if weight is None else out * weight.view(shape)
    return (out if bias is None else out + bias.view(shape)), deviation, deviation


def _normalised(x: Tensor, mask: Tensor, axis: int, eps: float) -> tuple[Tensor, Tensor]:
    count = mask.sum(axis, keepdim=True)
    centred = x - (x * mask).sum(axis, keepdim=True) / count
    deviation = ((centred.square() * mask).sum(axis, keepdim=True) / count + eps).rsqrt()
    return centred * deviation, deviation


def settle(model: nn.Module, call: Callable[[], object]) -> None:
    """Give batch norms the statistics of what they read when ``call`` runs the model, a little more variance, in place.

    With statistics drawn at random a deep network multiplies its signal at every layer, and with it the rounding
    errors, until equal networks look different. A network that ``call`` can't run keeps what it has.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._NormBase) and m.running_var is not None]
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
            if isinstance(module, nn.modules.batchnorm._NormBase) and module.running_mean is not None:
                draw(module.running_mean, -0.5, 0.5)
                assert module.running_var is not None
                draw(module.running_var, 0.5, 1.5)
