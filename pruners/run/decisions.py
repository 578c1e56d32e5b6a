"""What the data decide on a network's way: how many places are found, which of them are taken, numbers for the code."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ..places import Site
from .frames import author_site
from .isolated import DispatchMode
from .torch_private import tree_leaves, tree_map

_FOUND = {torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output}
_MASKED = {"index", "index_put", "index_put_", "masked_select"}  # results may hold channels; masks decide


@dataclass(frozen=True)
class Decision:
    """An operation, where the author's code called it, the shapes that it read, and its result; of one that reads
    masks, these."""

    name: str
    site: Site
    shapes: tuple[torch.Size, ...]
    value: Any


def decision(op: Any, args: tuple[Any, ...], out: Any, site: Site, ruled: bool) -> Decision | None:
    """What the data decided in an operation that ran, if anything. ``ruled``: a label rule knows it."""
    name = op.overloadpacket.__name__
    if name in _MASKED:
        read = _read(name, args)
        return Decision(name, site, _shapes(read), _copied(read)) if read else None
    if not _finds(op):
        whole = [] if ruled else [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        if not whole or any(t.is_floating_point() for t in whole):
            return None
    return Decision(name, site, _shapes(_read(name, args)), _copied(out))


@cache
def _finds(op: Any) -> bool:
    return bool(_FOUND & set(op.tags))


def _read(name: str, args: tuple[Any, ...]) -> list[Tensor]:
    """The tensors that decide."""
    masked = name in _MASKED
    found = [t for t in tree_leaves(args[1:2] if masked else args) if isinstance(t, Tensor)]
    return [t for t in found if t.dtype == torch.bool] if masked else found


def _shapes(tensors: Iterable[Tensor]) -> tuple[torch.Size, ...]:
    return tuple(t.shape for t in tensors)


def _copied(value: Any) -> Any:
    return tree_map(lambda v: v.clone() if isinstance(v, Tensor) else v, value)


class AsDecided(DispatchMode):
    """A network with other channels decides as another one did on the same inputs: where its own data would give
    another number of boxes, its code would take another way."""

    def __init__(self, decided: Iterable[Decision]) -> None:
        super().__init__()
        self._decided: dict[tuple[str, Site], list[Decision]] = {}
        for one in reversed([*decided]):
            self._decided.setdefault((one.name, one.site), []).append(one)

    def called(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = func.overloadpacket.__name__
        known = self._decided.get((name, author_site())) if self._decided else None
        read = _read(name, args) if known else []
        if not known or (name in _MASKED and not read):
            return func(*args, **kwargs)
        one = known.pop()
        if _shapes(read) != one.shapes:  # it counts channels
            return func(*args, **kwargs)
        if name not in _MASKED:
            return _copied(one.value)
        given = {id(mask): other for mask, other in zip(read, one.value, strict=True)}
        return func(*tree_map(lambda v: given.get(id(v), v), args), **kwargs)
