"""Functions of torch that need more than the label rules of the operations inside them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_leaves

from pruners.frames import author_site

if TYPE_CHECKING:
    from pruners.tracing import Tracer

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
    """``nn.MultiheadAttention`` can't express other sizes than its own: all that goes in and comes out stays."""
    reason = "nn.MultiheadAttention, whose sizes are fixed"
    for leaf in (t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)):
        tracer.freeze(tracer.labels(leaf).planes, reason, author_site())
    out = func(*args, **kwargs)
    for leaf in (t for t in tree_leaves(out) if isinstance(t, Tensor)):
        tracer.freeze(tracer.labels(leaf).planes, reason, author_site())
    return out


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


@special(Tensor.numpy, Tensor.tolist, Tensor.__array__, Tensor.__dlpack__)
def way_out(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What the numbers are used for can't be seen: they stay."""
    tracer.freeze(tracer.labels(args[0]).planes, f"{func.__name__} takes it out of torch", author_site())
    return func(*args, **kwargs)
