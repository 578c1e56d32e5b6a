"""The original as it must compute where channels are gone: nothing reads them, statistics leave them out.

Operations that read channels without weights are known from the trace, by their number in the pass (``readers``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..graph import ChannelGraph, Kept
from ..run import DispatchMode, tree_leaves

Masks = Mapping[int, Tensor]  # axis of the operand that holds channels -> the positions that stay


class UnlikeError(Exception):
    """The network runs other operations here than it did in the trace."""


@contextmanager
def masking(
    graph: ChannelGraph, kept: Kept, counts: dict[str, int] | None = None, training: bool = False
) -> Iterator[None]:
    """Within this block the original runs once, in this mode, and no operation reads removed channels.

    ``counts`` gets how often the operations ran that have to be told. Raises UnlikeError where one reads something of
    another size than in the trace.
    """
    masks: dict[tuple[str, int], dict[int, Tensor]] = {}
    for (name, number, axis, trained), positions in graph.readers.items():
        mask = torch.from_numpy(positions.mask(kept))
        if trained == training and not bool(mask.all()):
            masks.setdefault((name, number), {})[axis] = mask
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), _Masking(masks) as mode:
            yield
        if counts is not None:
            counts.update({name: mode.ran[name] for name, _ in masks})
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


class _Masking(DispatchMode):
    """Counts operations as the tracer does."""

    def __init__(self, masks: Mapping[tuple[str, int], Masks]) -> None:
        super().__init__()
        self._masks = masks
        self.ran: Counter[str] = Counter()

    def called(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = func.overloadpacket.__name__
        masks = self._masks.get((name, self.ran[name]))
        self.ran[name] += 1
        if masks is None:
            return func(*args, **kwargs)
        _check(args, masks)
        return _FORMS.get(name, _statistic)(func, args, kwargs, masks)


def _check(args: tuple[Any, ...], masks: Masks) -> None:
    operands = [a for a in tree_leaves(args) if isinstance(a, Tensor)]
    for axis, mask in masks.items():
        if not any(-t.ndim <= axis < t.ndim and t.shape[axis] == len(mask) for t in operands):
            raise UnlikeError("an operation reads something of another size than in the trace")


def _statistic(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], masks: Masks) -> Any:
    """A reduction over what stays."""
    return func(_part(args[0], masks), *args[1:], **kwargs)


def _loss(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], masks: Masks) -> Any:
    """A mean over what stays of two tensors of one shape."""
    return func(*(_part(a, masks) for a in args[:2]), *args[2:], **kwargs)


def _laid_back(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], masks: Masks) -> Any:
    """An operation that keeps the shape (a batch norm over a weight): what it makes of what stays, beside zeros."""
    return _among_zeros(func(_part(args[0], masks), *args[1:], **kwargs), args[0], masks)


def _layer_norm(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], masks: Masks) -> Any:
    x, (mask,) = _part(args[0], masks), masks.values()
    out = func(x, [x.shape[-1]], *(_of_vector(v, mask) for v in args[2:4]), *args[4:])
    return _among_zeros(out, args[0], masks)


def _group_norm(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], masks: Masks) -> Any:
    x, (mask,) = _part(args[0], masks).contiguous(), masks.values()
    vectors = [_of_vector(v, mask) for v in args[1:3]]
    out = func(x, *vectors, args[3], x.shape[1], *args[5:])
    return _among_zeros(out, args[0], masks)


def _product(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], masks: Masks) -> Any:
    """(left, right) or (added, left, right), also (input, weight, bias, ...)."""
    place = 1 if func.overloadpacket.__name__ in {"addmm", "baddbmm", "addmv"} else 0
    left = args[place]
    for axis, mask in masks.items():
        shape = [1] * left.ndim
        shape[axis] = -1
        left = left * mask.to(left).view(shape)
    return func(*args[:place], left, *args[place + 1 :], **kwargs)


_FORMS: dict[str, Callable[[Any, tuple[Any, ...], dict[str, Any], Masks], Any]] = {
    **dict.fromkeys(("mm", "bmm", "mv", "dot", "addmm", "baddbmm", "addmv", "convolution"), _product),
    **dict.fromkeys(("native_batch_norm", "_native_batch_norm_legit", "cudnn_batch_norm"), _laid_back),
    **dict.fromkeys(("mse_loss", "smooth_l1_loss", "huber_loss", "soft_margin_loss"), _loss),
    "native_layer_norm": _layer_norm,
    "native_group_norm": _group_norm,
}


def _part(x: Tensor, masks: Masks) -> Tensor:
    for axis, mask in masks.items():
        x = x.index_select(axis, _places(x, mask))
    return x


def _of_vector(vector: Tensor | None, mask: Tensor) -> Tensor | None:
    return None if vector is None else vector[_places(vector, mask)]


def _among_zeros(out: Any, x: Tensor, masks: Masks) -> Any:
    """The first result as large as the operand was."""
    whole = out[0]
    for axis, mask in masks.items():
        shape = list(whole.shape)
        shape[axis] = x.shape[axis]
        whole = whole.new_zeros(shape).index_copy(axis, _places(x, mask), whole)
    return (whole, *out[1:])


def _places(x: Tensor, mask: Tensor) -> Tensor:
    return mask.nonzero().reshape(-1).to(x.device)
