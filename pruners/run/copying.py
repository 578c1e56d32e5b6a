"""Copies of somebody's network, whatever it holds."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)
INTERNAL = frozenset(vars(nn.Module()))  # attributes that every module has from torch


def copied(model: M, memo: Mapping[int, Any] | None = None) -> M:
    """A deep copy. What can't be copied (a lock, a stream, a tensor with a history) is shared with the original.

    ``memo``: what to take for some objects, by their identity, as ``copy.deepcopy`` has it.
    """
    try:
        return copy.deepcopy(model, dict(memo or {}))
    except (TypeError, RuntimeError, NotImplementedError):
        values = [v for m in model.modules() for n, v in vars(m).items() if n not in INTERNAL]
        held = {id(v): v for v in values if not _copies(v, memo)}
        return copy.deepcopy(model, {**held, **(memo or {})})


def _copies(value: Any, memo: Mapping[int, Any] | None) -> bool:
    try:
        copy.deepcopy(value, dict(memo or {}))
    except (TypeError, RuntimeError, NotImplementedError):
        return False
    return True
