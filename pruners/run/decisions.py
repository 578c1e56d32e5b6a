"""What the data decide on a network's way: how many places are found, which of them are taken, numbers for the code."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
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
    """An operation, where the author's code called it, and its result or, of one that reads masks, these."""

    name: str
    site: Site
    value: Any


def decision(op: Any, args: tuple[Any, ...], out: Any, site: Site, ruled: bool) -> Decision | None:
    """What the data decided in an operation that ran, if anything. ``ruled``: a label rule knows it."""
    name = op.overloadpacket.__name__
    if name in _MASKED:
        masks = [m.clone() for m in _masks(args)]
        return Decision(name, site, masks) if masks else None
    whole = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
    counted = not ruled and all(not t.is_floating_point() for t in whole) and bool(whole)
    if not counted and not _FOUND & set(op.tags):
        return None
    return Decision(name, site, _copied(out))


def _masks(args: tuple[Any, ...]) -> list[Tensor]:
    return [t for t in tree_leaves(args[1:2]) if isinstance(t, Tensor) and t.dtype == torch.bool]


def _copied(value: Any) -> Any:
    return tree_map(lambda v: v.clone() if isinstance(v, Tensor) else v, value)


class AsDecided(DispatchMode):
    """A network with other channels decides as another one did on the same inputs: where its own data would give
    another number of boxes, its code would take another way."""

    def __init__(self, decided: Iterable[Decision]) -> None:
        super().__init__()
        self._decided: dict[tuple[str, Site], list[Any]] = {}
        for one in reversed([*decided]):
            self._decided.setdefault((one.name, one.site), []).append(one.value)

    def called(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = func.overloadpacket.__name__
        known = self._decided.get((name, author_site())) if self._decided else None
        if not known:
            return func(*args, **kwargs)
        if name not in _MASKED:
            return _copied(known.pop())
        masks = _masks(args)
        if not masks or [m.shape for m in masks] != [m.shape for m in known[-1]]:
            return func(*args, **kwargs)
        given = {id(m): other for m, other in zip(masks, known.pop(), strict=True)}
        return func(args[0], tree_map(lambda v: given.get(id(v), v), args[1]), *args[2:], **kwargs)
