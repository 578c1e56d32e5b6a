"""Multiply-accumulates, counted operation by operation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


@dataclass(frozen=True)
class Loop:
    """One index that a product runs over: its size, and the axes of operands or result that it runs along."""

    size: int
    along: tuple[tuple[Tensor, int], ...] = ()


_FIRST_OPERAND = {
    "mm": 0, "bmm": 0, "mv": 0, "dot": 0, "vdot": 0, "_scaled_mm": 0, "_int_mm": 0,
    "addmm": 1, "baddbmm": 1, "addbmm": 1, "addmv": 1, "_addmm_activation": 1,
}  # fmt: skip
_ATTENTION = (
    "_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_fused_attention_overrideable", "_scaled_dot_product_attention_math",
)  # fmt: skip


def products(func: Any, args: tuple[Any, ...], out: Any) -> list[list[Loop]]:
    """The products of an operation of torch, each as the indices it runs over: one multiply-accumulate for each of
    their combinations. Empty for what multiplies no matrices."""
    if func.namespace != "aten":
        return []
    name = func.overloadpacket.__name__
    name = name[:-1] if name.endswith("_") else name  # in place
    if name in {"convolution", "_convolution"}:
        return [_convolution(args[0], args[1], bool(args[6]), out)]
    if name in _FIRST_OPERAND:
        return [_matrices(*args[_FIRST_OPERAND[name] :][:2])]
    if name in _ATTENTION:
        return _attention(*args[:3])
    return [_trilinear(args)] if name == "_trilinear" else []


def _convolution(x: Tensor, weight: Tensor, transposed: bool, out: Tensor) -> list[Loop]:
    """Each place of the output, or of the input where transposed, takes a product of each element of the weight."""
    n = weight.ndim - 2
    channels = x.ndim - n - 1
    places = x if transposed else out
    rows, columns = ((x, channels), (out, channels)) if transposed else ((out, channels), (x, channels))
    axes = [a for a in range(places.ndim) if a != channels]
    return [
        Loop(weight.shape[0], (rows,)),
        Loop(weight.shape[1], (columns,) if weight.shape[1] > 1 else ()),  # alone in its group: depth-wise
        *(Loop(size) for size in weight.shape[2:]),
        *(Loop(places.shape[a], ((places, a),)) for a in axes),
    ]


def _matrices(left: Tensor, right: Tensor) -> list[Loop]:
    """(batch, m, k) times (batch, k, n), with fewer axes where an operand is a matrix or a vector."""
    inner = Loop(left.shape[-1], ((left, left.ndim - 1), (right, max(right.ndim - 2, 0))))
    rows = [Loop(left.shape[a], ((left, a),)) for a in range(left.ndim - 1)]
    if left.ndim == 3 and right.ndim == 3:
        rows[0] = Loop(left.shape[0], ((left, 0), (right, 0)))
    return [inner, *rows, *([Loop(right.shape[-1], ((right, right.ndim - 1),))] if right.ndim > 1 else [])]


def _attention(query: Tensor, key: Tensor, value: Tensor) -> list[list[Loop]]:
    """Queries times keys, and what comes of it times values. What a mask leaves out is computed, too."""
    n = query.ndim
    rows = [Loop(query.shape[a], ((query, a),)) for a in range(n - 1)]
    keys = Loop(key.shape[-2], ((key, n - 2), (value, n - 2)))
    scores = [*rows, keys, Loop(query.shape[-1], ((query, n - 1), (key, n - 1)))]
    return [scores, [*rows, keys, Loop(value.shape[-1], ((value, n - 1),))]]


def _trilinear(args: tuple[Any, ...]) -> list[Loop]:
    """Three operands, each with axes of size 1 put in where the others have more."""
    places = []
    for operand, expanded in zip(args[:3], args[3:6], strict=True):
        own = iter((operand, axis) for axis in range(operand.ndim))
        places.append([None if a in expanded else next(own) for a in range(operand.ndim + len(expanded))])
    found = [[p for p in beside if p is not None] for beside in zip(*places, strict=True)]
    return [Loop(max(t.shape[a] for t, a in along), tuple(along)) for along in found]


def macs_of(loops: Sequence[Loop]) -> int:
    """The multiply-accumulates of one product."""
    return math.prod(loop.size for loop in loops)


class DispatchMode(TorchDispatchMode):
    """Torch wraps the hook of a mode so that its compiler keeps out, and the wrapper's first call imports that
    compiler, which takes seconds. Nothing here is compiled."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__torch_dispatch__ = getattr(  # type: ignore[method-assign]
            cls.__torch_dispatch__, "__wrapped__", cls.__torch_dispatch__
        )

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return self.called(func, args, kwargs or {})

    def called(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What takes the place of an operation; gives what it gives."""
        raise NotImplementedError


class MacCounter(DispatchMode):
    """Counts the multiply-accumulates of all convolutions and matrix products, operation by operation."""

    macs = 0

    def called(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if torch.is_inference_mode_enabled():  # there composite operations come whole
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        out = func(*args, **kwargs)
        self.saw(func, (args, kwargs), out, sum(map(macs_of, products(func, args, out))))
        return out

    def saw(self, func: Any, operands: tuple[tuple[Any, ...], dict[str, Any]], out: Any, macs: int) -> None:
        """An operation has run."""
        self.macs += macs
