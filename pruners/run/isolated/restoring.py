"""What a run leaves in a network is taken back."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from .streaming import Streamed

INTERNAL = frozenset(vars(nn.Module()))  # attributes that every module has from torch
_HOOKS = {name for name in INTERNAL if name.startswith("_forward_") and "hooks" in name}


@contextmanager
def buffers_restored(model: nn.Module) -> Iterator[None]:
    """A pass in training mode changes buffers (running statistics) and parameters that no gradient trains (a codebook
    of moving averages): afterwards they are what they were."""
    held: list[tuple[Any, str, torch.Tensor]] = []
    for module in model.modules():
        held += [(module._buffers, n, b) for n, b in module._buffers.items() if b is not None]
        frozen = [(n, p) for n, p in module._parameters.items() if p is not None and not p.requires_grad]
        held += [(module._parameters, n, p) for n, p in frozen]
    before = [(store, n, t, t.clone()) for store, n, t in held]
    try:
        yield
    finally:
        for store, name, tensor, value in before:
            with torch.no_grad():
                store[name] = tensor.copy_(value)


@contextmanager
def without_traces(model: nn.Module) -> Iterator[None]:
    """Gives the plain attributes, buffers and hooks of every module back what they were and held, and parameters the
    tensor they had: running fills caches, for other widths than the next run may have, and installs hooks once."""
    stored = [(p, p.data, dict(vars(p))) for p in model.parameters() if not isinstance(p, Streamed)]
    put_back = undoing(model)
    try:
        yield
    finally:
        put_back()
        for parameter, values, attributes in stored:
            if parameter.data_ptr() != values.data_ptr():
                parameter.data = values
            vars(parameter).clear()
            vars(parameter).update(attributes)


def undoing(model: nn.Module) -> Callable[[], None]:
    """What puts back plain attributes, buffers and hooks as they are now, with what they hold."""
    held = INTERNAL - {"_buffers", "_non_persistent_buffers_set"} - _HOOKS
    before = [(m, {n: (v, _content(v)) for n, v in vars(m).items() if n not in held}) for m in model.modules()]

    def put_back() -> None:
        for module, attributes in before:
            for name in vars(module).keys() - attributes.keys() - INTERNAL:
                delattr(module, name)
            for name, (value, content) in attributes.items():
                if content is not None:
                    value.clear()
                    value.extend(content) if isinstance(value, list) else value.update(content)
                vars(module)[name] = value

    return put_back


def _content(value: Any) -> Any:
    """What a container holds that code can fill."""
    return copy.copy(value) if type(value) in (dict, list, set, OrderedDict) else None
