"""A network is called: with what, in which precision, and what comes out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_map


def call(model: Any, inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, (tuple, list)) else model(inputs)


def tensors_in(value: Any) -> list[Tensor]:
    """All tensors of an output, in order: in tuples, lists, dicts, dataclasses and what is derived from them."""
    if isinstance(value, Tensor):
        return [value]
    if is_dataclass(value) and not isinstance(value, type):
        value = [getattr(value, f.name) for f in fields(value)]
    elif isinstance(value, Mapping):
        value = list(value.values())
    return [t for part in value for t in tensors_in(part)] if isinstance(value, (tuple, list)) else []


def as_double(inputs: Any) -> Any:
    return tree_map(lambda t: t.double() if isinstance(t, Tensor) and t.is_floating_point() else t, inputs)


@contextmanager
def widely(double: bool) -> Iterator[None]:
    """In float64, what code makes without saying a type is float64, too, and attention is computed step by step:
    torch's fused kernels read a mask of another type as if it were of theirs."""
    usual = torch.get_default_dtype()
    with ExitStack() as stack:
        if double:
            torch.set_default_dtype(torch.float64)
            stack.callback(torch.set_default_dtype, usual)
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        yield


@contextmanager
def step_by_step(model: nn.Module) -> Iterator[None]:
    """Recurrent layers take their steps one by one, not in one opaque operation."""
    opaque = torch.backends.mkldnn.enabled and any(isinstance(m, nn.RNNBase) for m in model.modules())
    if opaque:
        torch.backends.mkldnn.enabled = False  # type: ignore[assignment]  # ``flags`` sets more, of which torch warns
    try:
        yield
    finally:
        if opaque:
            torch.backends.mkldnn.enabled = True  # type: ignore[assignment]


@contextmanager
def transparent(model: nn.Module) -> Iterator[None]:
    """Neither recurrent layers nor attention are one opaque operation, in which nothing can be counted."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with step_by_step(model):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
