"""Copies of somebody's network, whatever it holds."""

from __future__ import annotations

import copy
import types
from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor, nn

from .isolated import INTERNAL, Streamed, streamed

M = TypeVar("M", bound=nn.Module)
_UNCOPIED = (TypeError, RuntimeError, NotImplementedError, KeyError)


def copied(model: M, memo: Mapping[int, Any] | None = None) -> M:
    """A deep copy. What can't be copied (a lock, a stream, a tensor with a history, a dict that has no attribute that
    is no key of it) is shared with the original.

    ``memo``: what to take for some objects, by their identity, as ``copy.deepcopy`` has it.
    """
    known = dict(memo or {})
    try:
        found = copy.deepcopy(model, known)
    except _UNCOPIED:
        values = [v for m in model.modules() for n, v in vars(m).items() if n not in INTERNAL]
        values += model.buffers()  # torch copies no tensor of compressed rows
        known = {**{id(v): v for v in values if not _copies(v, memo)}, **(memo or {})}
        found = copy.deepcopy(model, known)
    for module in model.modules():  # layers that make themselves anew, such as those of einops, train again
        known.get(id(module), module).training = module.training
    for module in found.modules():
        for name, value in vars(module).items():
            if isinstance(value, types.FunctionType) and _is_around_layers(value):
                vars(module)[name] = _enclosing(value, known)
    return found


def twin(model: M) -> M:
    """A copy that can have other weights, also where these come and go."""
    return copied(model, {id(p): streamed(p, p.values) for p in model.parameters() if isinstance(p, Streamed)})


def _is_around_layers(function: types.FunctionType) -> bool:
    """Whether a function runs layers that it holds. One that only reads numbers of a module stays: numbers in its own
    expressions are put right there."""
    names = {*function.__code__.co_names}
    for cell in function.__closure__ or ():
        held = cell.cell_contents if cell != types.CellType() else None
        if isinstance(held, types.FunctionType) and _is_around_layers(held):
            return True
        if isinstance(held, nn.Module):
            read = [getattr(held, name) for name in names if hasattr(held, name)]
            if not read or any(callable(value) or isinstance(value, Tensor) for value in read):
                return True
    return False


def _enclosing(function: types.FunctionType, known: dict[int, Any]) -> types.FunctionType:
    """The function around the copies of what it holds, such as a module's own layers; ``copy`` leaves it as it is."""
    cells = tuple(types.CellType() for _ in function.__closure__ or ())
    code, names = function.__code__, function.__globals__
    made = types.FunctionType(code, names, function.__name__, function.__defaults__, cells)
    made.__kwdefaults__, made.__dict__ = function.__kwdefaults__, dict(vars(function))
    known[id(function)] = made
    for cell, old in zip(cells, function.__closure__ or (), strict=True):
        if old != types.CellType():  # else nothing was assigned to the name yet
            cell.cell_contents = _held(old.cell_contents, known)
    return made


def _held(value: Any, known: dict[int, Any]) -> Any:
    if id(value) in known:
        return known[id(value)]
    if isinstance(value, types.FunctionType):
        return _enclosing(value, known) if _is_around_layers(value) else value
    return copy.deepcopy(value, known) if _copies(value, known) else value


def _copies(value: Any, memo: Mapping[int, Any] | None) -> bool:
    try:
        copy.deepcopy(value, dict(memo or {}))
    except _UNCOPIED:
        return False
    return True
