"""A network's pass as a list of aten operations, and passes of almost the same network that skip its beginning.

The Python code of ``forward`` always runs. What is skipped are the operations it asks for: while every operation is the
recorded one (same function, same numbers, same results and weights read), its result is known. Results that are still
needed after the cut are handed out as they were recorded; of all others only shape and type are there (``Skipped``),
and whoever wants their values makes the pass fail instead of computing something wrong.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from ...run import NO_TORCH_FUNCTION, DispatchMode, same_values, schema_of, storage_of, tree_leaves, without_values

Origin = tuple[Any, ...]  # ("result", operation, place), ("state", name) or ("input", place)
SMALL = 4096  # elements of a constant that are compared one by one


class DiffersError(Exception):
    """The pass is not the recorded one, or needs what was skipped."""


class ReachedError(Exception):
    """A recording has come to its end."""


class Skipped(Tensor):
    """A result that nobody computed: shape and type without values."""

    @staticmethod
    def __new__(cls, fact: Fact) -> Skipped:
        made: Skipped = without_values(cls, fact.shape, fact.strides, fact)
        return made

    __torch_function__ = NO_TORCH_FUNCTION  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        raise DiffersError(f"{func} of a result that was skipped")


@dataclass(frozen=True)
class Fact:
    """What is known of a tensor that an operation gave."""

    origin: Origin
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


@dataclass(frozen=True)
class Same:
    """The operation gave back a tensor that was there before, such as the one it wrote to."""

    origin: Origin


@dataclass(frozen=True)
class Constant:
    """A tensor of unknown origin; equal to another one with the same values."""

    value: Tensor | None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Constant) or self.value is None or other.value is None:
            return False
        return alike(self.value, other.value)

    __hash__ = None  # type: ignore[assignment]


def alike(a: Tensor, b: Tensor) -> bool:
    """Same type, place, layout and values; NaN is like nothing."""
    form = (a.dtype, a.device, a.shape, a.layout) == (b.dtype, b.device, b.shape, b.layout)
    return form and (a.layout != torch.strided or a.stride() == b.stride()) and same_values(a, b)


@dataclass(frozen=True)
class Operation:
    """``asked``: the function and its arguments, with origins for tensors; ``given``: ``Fact``, ``Same``, a plain
    value, or a tuple of these."""

    asked: tuple[Any, ...]
    given: Any


class Origins:
    """Where the tensors of one pass come from. ``changed`` names state that isn't what the pass is compared with."""

    def __init__(self, model: nn.Module, inputs: Any, changed: frozenset[str] = frozenset()) -> None:
        self._of = WeakTensorKeyDictionary()
        self.changed = changed
        for place, leaf in enumerate(tree_leaves(inputs)):
            if isinstance(leaf, Tensor):
                self._of[leaf] = ("input", place)
        for name, tensor in state_of(model):
            if tensor not in self._of:
                self._of[tensor] = ("state", name)

    def of(self, tensor: Tensor) -> Origin | None:
        return self._of.get(tensor)

    def asked(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        return (func, self._described(args), *((k, self._described(v)) for k, v in sorted(kwargs.items())))

    def _described(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            origin = self._of.get(value)
            if origin is None:
                return _constant(value)
            return ("changed", *origin) if origin[0] == "state" and origin[1] in self.changed else origin
        if isinstance(value, (tuple, list)):
            return tuple([self._described(v) for v in value])
        if isinstance(value, float):
            return float, value.hex()
        return type(value), value

    def given(self, number: int, out: Any) -> Any:
        """The description of what an operation gave, whose tensors are known from now on."""
        place = iter(range(1 << 30))

        def described(value: Any) -> Any:
            if isinstance(value, (tuple, list)):
                return type(value)([described(v) for v in value])
            if not isinstance(value, Tensor):
                return value
            known = self._of.get(value)
            if known is not None:
                return Same(known)
            origin = self._of[value] = ("result", number, next(place))
            strides = tuple(value.stride()) if value.layout == torch.strided else ()
            return Fact(origin, tuple(value.shape), strides, value.dtype, value.device)

        return described(out)

    def note(self, tensor: Tensor, origin: Origin) -> None:
        self._of[tensor] = origin


def _constant(tensor: Tensor) -> Constant:
    known = tensor.numel() <= SMALL and not isinstance(tensor, Skipped)
    return Constant(tensor.detach().clone() if known else None)


def state_of(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and all buffers, each once, by its first name."""
    yield from model.named_parameters()
    yield from model.named_buffers()


@functools.cache
def written(func: Any) -> tuple[int | str, ...]:
    """Which arguments an operation writes to."""
    found: list[int | str] = []
    for place, argument in enumerate(schema_of(func).arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            found.append(argument.name if argument.kwarg_only else place)
    return tuple(found)


def writes(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
    if not schema_of(func).is_mutable:
        return []
    values = [kwargs.get(p) if isinstance(p, str) else args[p] if p < len(args) else None for p in written(func)]
    return [t for t in tree_leaves(values) if isinstance(t, Tensor)]


@dataclass
class Recording:
    """The first operations of a pass, and those of their results that are needed later."""

    calls: list[Operation]
    live: dict[Origin, Tensor]
    rewritten: frozenset[Origin]
    seconds: float = 0.0

    @property
    def cut(self) -> int:
        return len(self.calls)

    @property
    def bytes(self) -> int:
        return sum({storage_of(t): t.untyped_storage().nbytes() for t in self.live.values()}.values())

    def handed_out(self) -> dict[Origin, Tensor]:
        """The live results; those that are going to be written to as copies, which share memory as the originals do."""
        copies: dict[int, torch.UntypedStorage] = {}
        shared = {storage_of(self.live[o]) for o in self.rewritten & self.live.keys()}
        found = dict(self.live)
        for origin, tensor in self.live.items():
            storage = storage_of(tensor)
            if storage in shared:
                if storage not in copies:
                    copies[storage] = tensor.untyped_storage().clone()
                fresh = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
                found[origin] = fresh.set_(copies[storage], tensor.storage_offset(), tensor.shape, tensor.stride())
        return found


class Replay(DispatchMode):
    """Skips what the recording holds and computes what follows.

    ``until``: end the pass with ``ReachedError`` before this operation, after noting all before it (``calls``) and what
    is ``wanted`` of their results (``live``).
    """

    def __init__(
        self,
        origins: Origins,
        recording: Recording | None = None,
        until: int | None = None,
        wanted: frozenset[Origin] = frozenset(),
    ) -> None:
        super().__init__()
        self._origins, self._until, self._wanted = origins, until, wanted
        self._recording = recording or Recording([], {}, frozenset())
        self._live = self._recording.handed_out()
        self._guarded = {storage_of(t) for o, t in self._recording.live.items()}
        self._objects: dict[Origin, Tensor] = {}
        self.calls: list[Operation] = []
        self.live: dict[Origin, Tensor] = {}
        self.number = 0
        self.failed: int | None = None  # where the pass left the recording; -1: it needs what was skipped

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        number, self.number = self.number, self.number + 1
        if self.failed is not None:
            raise DiffersError
        if number == self._until:
            raise ReachedError
        if number == self._recording.cut:
            self._origins.changed = frozenset()
        if number < self._recording.cut:
            return self._recorded(number, func, args, kwargs)
        if any(t is Skipped for t in types):
            self._fail(-1)
        if schema_of(func).is_mutable and any(storage_of(t) in self._guarded for t in writes(func, args, kwargs)):
            self._fail(-1)
        if self._until is None:
            return func(*args, **kwargs)
        asked = self._origins.asked(func, args, kwargs)
        out = func(*args, **kwargs)
        self.calls.append(Operation(asked, self._origins.given(number, out)))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._keep(self._origins.of(tensor), tensor)
        return out

    def _recorded(self, number: int, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        operation = self._recording.calls[number]
        if self._origins.asked(func, args, kwargs) != operation.asked:
            self._fail(number)
        self.calls.append(operation)
        return self._made(operation.given)

    def _made(self, given: Any) -> Any:
        if isinstance(given, Fact):
            tensor = self._live.get(given.origin)
            # autograd wants new tensors, even where it isn't asked for
            made = Skipped(given) if tensor is None else torch.ops.aten.alias.default(tensor)
            self._objects[given.origin] = made
            self._origins.note(made, given.origin)
            self._keep(given.origin, made)
            return made
        if isinstance(given, Same):
            if given.origin not in self._objects:
                self._fail(-1)
            return self._objects[given.origin]
        return type(given)([self._made(v) for v in given]) if isinstance(given, (tuple, list)) else given

    def _keep(self, origin: Origin | None, tensor: Tensor) -> None:
        if origin in self._wanted:
            self.live[origin] = tensor

    def _fail(self, where: int) -> None:
        self.failed = where
        raise DiffersError
