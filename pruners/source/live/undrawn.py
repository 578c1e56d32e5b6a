"""Networks made only to be looked at: their parameters' random initial values are not drawn.

A large network takes seconds to draw its weights, and memory that only a draw makes real. What follows a draw and
changes the parameter alone waits too; where anything else reads it, all that waits is done first.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from ...run import TRUNCATED_NORMAL, DispatchMode

_DRAWS = {"uniform_", "normal_", "bernoulli_", "exponential_", "log_normal_", "cauchy_", "random_"}


class Undrawn(DispatchMode):
    """Within this block draws of parameters wait for somebody to read them; at its end they are forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: dict[int, list[tuple[Any, tuple[Any, ...], dict[str, Any]]]] = {}
        self._truncated = getattr(nn.init, TRUNCATED_NORMAL)  # looks at what it drew, and draws again

    def __enter__(self) -> Self:
        mine = threading.get_ident()

        def truncated(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            if threading.get_ident() != mine or not isinstance(tensor, nn.Parameter):
                return self._truncated(tensor, *args, **kwargs)
            self._waiting.setdefault(id(tensor), []).append((self._truncated, (tensor, *args), kwargs))
            return tensor

        setattr(nn.init, TRUNCATED_NORMAL, truncated)
        super().__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        setattr(nn.init, TRUNCATED_NORMAL, self._truncated)
        super().__exit__(kind, error, tb)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = (*args, *kwargs.values())  # an operation takes tensors and flat lists of them
        tensors = [t for a in given for t in (a if isinstance(a, list | tuple) else (a,)) if isinstance(t, Tensor)]
        alone = len(tensors) == 1 and isinstance(tensors[0], nn.Parameter)
        name = func.overloadpacket.__name__
        if alone and name.endswith("_") and (name in _DRAWS or id(tensors[0]) in self._waiting):
            self._waiting.setdefault(id(tensors[0]), []).append((func, args, kwargs))
            return tensors[0]
        for tensor in tensors:
            for call, operands, named in self._waiting.pop(id(tensor), ()):
                with torch.no_grad():  # as where it was called, in nn.init
                    call(*operands, **named)
        return func(*args, **kwargs)
