"""Functions of torch that need more than the label rules of the operations inside them."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..run import author_frame, author_site, span, span_of, tree_leaves, tree_of
from .labelling import Labels, Tracer, along, on_axis

_TORCHS = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
Special = Callable[["Tracer", Any, tuple[Any, ...], dict[str, Any]], Any]
SPECIAL: dict[Any, Special] = {}


def special(*functions: Any) -> Callable[[Special], Special]:
    """Register what runs instead of these functions while the network is traced."""

    def register(function: Special) -> Special:
        SPECIAL.update(dict.fromkeys(functions, function))
        return function

    return register


@special(F.multi_head_attention_forward)
def attention_of_torch(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What ``nn.MultiheadAttention`` computes; all that goes in and comes out stays where nothing can stand in for
    it."""
    reason = fixed(*tracer.modules.running)
    for leaf in (t for t in tree_leaves((args, kwargs)) if reason and isinstance(t, Tensor)):
        tracer.freeze(tracer.labels(leaf).planes, reason, author_site())
    tracer.integers_follow = True  # what stands in for it has none
    with sdpa_kernel(SDPBackend.MATH):
        out = func(*args, **kwargs)
    tracer.integers_follow = False
    for leaf in (t for t in tree_leaves(out) if reason and isinstance(t, Tensor)):
        tracer.freeze(tracer.labels(leaf).planes, reason, author_site())
    return out


def fixed(layer: nn.Module, around: nn.Module | None) -> str:
    """Why the attention that is running must keep its sizes, if it must."""
    if type(layer) is not nn.MultiheadAttention:
        return "F.multi_head_attention_forward, whose sizes are fixed"
    if isinstance(around, _TORCHS) and type(around) not in _TORCHS:
        return f"{type(around).__name__}, which is built upon one of torch's layers of fixed sizes"
    if layer.bias_k is not None or layer.add_zero_attn:
        return "nn.MultiheadAttention with keys of its own, whose sizes are fixed"
    return ""


@special(torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu)
def recurrent(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """All layers and both directions of ``nn.LSTM`` have one hidden size, and one size of projections."""
    out = func(*args, **kwargs)
    place = next(i for i, a in enumerate(args) if isinstance(a, list))
    weights, _, layers, _, _, both_ways = args[place : place + 6]
    stride = len(weights) // (layers * (2 if both_ways else 1))  # tensors per layer and direction
    for number in (1, 4) if stride in (3, 5) else (1,):
        first, *others = [tracer.axis(w, 1) for w in weights[min(number, stride - 1) :: stride]]
        for other in others:
            tracer.tie(first, other, "one size for all layers", author_site())
    return out


@special(Tensor.expand, Tensor.expand_as, Tensor.broadcast_to, torch.broadcast_to)
def expanded(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Positions of an axis that one value fills are like each other, as those of zeros."""
    source, out = args[0], func(*args, **kwargs)
    planes = []
    for axis, size in enumerate(out.shape):
        own = axis - (out.ndim - source.ndim)
        if size > 1 and (own < 0 or source.shape[own] == 1) and (axis == out.ndim - 1 or size != tracer.batch):
            line = tracer.virtual("expand", size, author_site())
            if func is Tensor.expand_as:
                _as_long(tracer, line, kwargs.get("other", args[-1]), axis)
            planes.append(on_axis(line, axis, out.ndim))
    if planes:
        labels = tracer.labels(out)
        tracer.label(out, Labels((*labels.planes, *planes), labels.weight))
    return out


@special(torch.tensor, torch.as_tensor, Tensor.new_tensor)
def of_a_list(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A list of one value, as long as the code computes: its positions are like each other, as those of zeros. Of a
    list that is written out, or kept somewhere, every position stays."""
    out = func(*args, **kwargs)
    plain = out.ndim == 1 and out.numel() > 1 and not tracer.labels(out).planes
    if plain and not out.is_meta and bool((out == out[0]).all()) and _computed_list():
        tracer.label(out, Labels((tracer.virtual("list", out.numel(), author_site()),)))
    return out


def _computed_list() -> bool:
    """Whether the call that runs is given ``[2.0] * x.size(0)``, or ``[2.0 for _ in range(x.size(0))]``."""
    frame = author_frame()
    tree = tree_of(frame.f_code.co_filename) if frame is not None else None
    here = span(frame) if frame is not None else None
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Call) and span_of(node) == here and node.args:
            given = node.args[0]
            repeated = isinstance(given, ast.BinOp) and isinstance(given.op, ast.Mult)
            return repeated or isinstance(given, ast.ListComp)
    return False


def _as_long(tracer: Tracer, line: Tensor, other: Tensor, axis: int) -> None:
    """An axis of as many positions as the other tensor's."""
    found = along(tracer.labels(other), axis)
    if found is None:
        tracer.freeze((line,), "expand_as takes a size that stays", author_site())
    else:
        tracer.tie(line, found, "expand_as", author_site())


@special(Tensor.numpy, Tensor.tolist, Tensor.__array__, Tensor.__dlpack__)
def way_out(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What the numbers are used for can't be seen: they stay."""
    tracer.freeze(tracer.labels(args[0]).planes, f"{func.__name__} takes it out of torch", author_site())
    return func(*args, **kwargs)
