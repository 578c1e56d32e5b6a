"""A pass with few images, seen as a whole: where other passes begin to differ, and what they need by then."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ...run import DispatchMode, storage_of, tree_leaves
from .replay import SMALL, Operation, Origin, Origins, state_of, writes

# these look at values without an operation
_PEEKING = {
    torch.Tensor.numpy, torch.Tensor.tolist, torch.Tensor.__array__, torch.Tensor.data_ptr, torch.Tensor.__dlpack__,
    torch.Tensor.untyped_storage, torch.Tensor.storage, torch.Tensor.data.__get__,  # type: ignore[attr-defined]
}  # fmt: skip


@dataclass
class Outline:
    """A pass with few images, seen as a whole. ``barrier``: operations from here on can't be skipped, because one of
    them draws random numbers, changes what outlives the pass, or values are looked at behind its back."""

    calls: list[Operation] = field(default_factory=list)
    last_use: dict[Origin, float] = field(default_factory=dict)
    last_write: dict[int, int] = field(default_factory=dict)  # storage -> operation
    storages: dict[Origin, int] = field(default_factory=dict)
    barrier: float = math.inf

    def cut(self, other: Outline) -> int:
        """How many operations another pass begins with that this one has as well."""
        limit = min(len(self.calls), len(other.calls), self.barrier, other.barrier)
        number = 0
        while number < limit and self.calls[number] == other.calls[number]:
            number += 1
        return number

    def live(self, cut: int) -> frozenset[Origin]:
        """Results of operations before the cut that are used after it."""
        return frozenset(o for o, last in self.last_use.items() if o[0] == "result" and o[1] < cut <= last)

    def rewritten(self, cut: int) -> frozenset[Origin]:
        """Those of them that are written to after the cut."""
        return frozenset(o for o in self.live(cut) if self.last_write.get(self.storages[o], -1) >= cut)


class _Peeking(TorchFunctionMode):
    def __init__(self, outline: Outline) -> None:
        super().__init__()
        self._outline = outline

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _PEEKING:
            self._outline.barrier = min(self._outline.barrier, len(self._outline.calls))
        return func(*args, **(kwargs or {}))


class _Outlining(DispatchMode):
    def __init__(self, outline: Outline, origins: Origins, lasting: set[int]) -> None:
        super().__init__()
        self._outline, self._origins, self._lasting = outline, origins, lasting
        self._alive: list[Any] = []  # so that no identity is used twice
        self._views: dict[int, int] = {}  # storage of what lasts -> the first operation that gave a view of it

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outline, kwargs = self._outline, kwargs or {}
        number = len(outline.calls)
        asked = self._origins.asked(func, args, kwargs)
        out = func(*args, **kwargs)
        self._alive.append((args, kwargs, out))
        try:
            for tensor in (t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)):
                self._use(tensor, number)
            for tensor in writes(func, args, kwargs):
                outline.last_write[storage_of(tensor)] = number
                if storage_of(tensor) in self._lasting:
                    outline.barrier = min(outline.barrier, number, self._views.get(storage_of(tensor), number))
            given = self._origins.given(number, out)
            for tensor in (t for t in tree_leaves(out) if isinstance(t, Tensor)):
                outline.storages[self._origins.of(tensor) or ()] = storage_of(tensor)
                self._views.setdefault(storage_of(tensor), number)
        except (RuntimeError, NotImplementedError):  # tensors without a storage
            outline.barrier, given = min(outline.barrier, number), None
        if torch.Tag.nondeterministic_seeded in func.tags:
            outline.barrier = min(outline.barrier, number)
        outline.calls.append(Operation(asked, given))
        return out

    def _use(self, tensor: Tensor, number: int) -> None:
        origin = self._origins.of(tensor)
        if origin is not None:
            self._outline.last_use[origin] = number
        elif tensor.numel() > SMALL:
            self._outline.barrier = min(self._outline.barrier, number)


def outline_of(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], changed: frozenset[str] = frozenset()
) -> Outline:
    """Run the model once; ``changed`` names what of its state is not what it is compared with."""
    outline = Outline()
    origins = Origins(model, (args, kwargs), changed)
    kept = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)] + [t for _, t in state_of(model)]
    mode = _Outlining(outline, origins, {storage_of(t) for t in kept})
    with _Peeking(outline), mode:
        out = model(*args, **kwargs)
    for leaf in tree_leaves(out):
        origin = origins.of(leaf) if isinstance(leaf, Tensor) else None
        if origin is not None:
            outline.last_use[origin] = math.inf
        elif not isinstance(leaf, (Tensor, int, float, bool, str, type(None))):
            outline.barrier = 0  # tensors may hide in it
    return outline
