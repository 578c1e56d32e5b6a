"""Terms: what constructors would be given to make the live network, and how terms of several instances join."""

from __future__ import annotations

import ast
import types
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from ...run import dense
from ..text import SourceFile

FEW = 16  # elements of a tensor that may be an argument


@dataclass(frozen=True)
class Lit:
    """A literal: None, bool, int, float, str, bytes, and tuples, lists, sets and dicts of them."""

    value: Any


@dataclass(frozen=True)
class Ref:
    """An object that author's code finds by a global name: a function, a class, a member of an enum."""

    value: Any


@dataclass(frozen=True)
class Text:
    """Author's text (a lambda) that gives the value."""

    text: str
    file: str


@dataclass(frozen=True)
class Closure:
    """A lambda or a function that a constructor makes. ``exprs``: what in it may say something else now, and ``args``
    what it says. ``templates``: what takes the place of a stale number, empty for a name of the constructor."""

    node: ast.Lambda | ast.FunctionDef | ast.AsyncFunctionDef
    file: SourceFile
    exprs: tuple[ast.expr, ...]
    args: tuple[Arg, ...]
    templates: tuple[str, ...]
    code: types.CodeType


@dataclass(frozen=True)
class Display:
    """A tuple, list or dict that holds more than literals. ``keys`` is empty but for a dict."""

    kind: str
    items: tuple[Term, ...]
    keys: tuple[Term, ...] = ()


@dataclass(frozen=True)
class Arg:
    """An argument of a call. ``default``: what the callee takes when it is not given (None: required).
    ``width``: whether the callee counts channels with it."""

    name: str
    value: Term
    default: Term | None = None
    positional: bool = False
    show: bool = False
    width: bool = False
    free: bool = False  # a number from which nothing follows in the module that gets it


@dataclass(frozen=True)
class Call:
    """A constructor call. ``paths``: for each instance of the class in question the module it makes there."""

    fn: Any
    args: tuple[Arg, ...]
    paths: tuple[str | None, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Item:
    """An element of a container; ``present``: in which instances (None: all)."""

    name: str
    value: Term
    present: tuple[bool, ...] | None = None


@dataclass(frozen=True)
class Box:
    """A Sequential, ModuleList, ModuleDict or plain Module and its elements."""

    fn: type
    items: tuple[Item, ...]
    paths: tuple[str | None, ...] = field(default=(), compare=False)

    @property
    def has_names(self) -> bool:
        """Whether its elements are called otherwise than by their numbers."""
        return [i.name for i in self.items] != [str(n) for n in range(len(self.items))]


@dataclass(frozen=True, eq=False)
class Either:
    """The author's ``yes if test else no``, ``node``. ``sides``: whether each instance has the first, None where it has
    neither."""

    node: ast.IfExp
    sides: tuple[bool | None, ...]
    yes: Term
    no: Term


@dataclass(frozen=True)
class Alias:
    """A module or parameter that this class already has under another name (``self.decoder.embed``)."""

    target: str


@dataclass(frozen=True, eq=False)
class Given:
    """An object that no literal says and that a constructor was handed: an expression of the author's makes it."""

    value: Any


class Unsaid(Exception):  # noqa: N818  (an outcome, not a fault)
    """No expression of the author's makes this object where it is handed on."""

    def __init__(self, value: Any) -> None:
        super().__init__(type(value).__name__)
        self.value = value


WIDTH_ARGUMENTS = {"in_channels": "channels", "out_channels": "channels", "num_channels": "channels"}
WIDTH_ARGUMENTS |= {"num_features": "channels", "groups": "channels"}
WIDTH_ARGUMENTS |= {"in_features": "features", "out_features": "features", "normalized_shape": "features"}


@dataclass(frozen=True, eq=False)
class Hole:
    """A position where instances differ. ``values``: a term per instance, None where the instance has no such place."""

    values: tuple[Term | None, ...]
    where: tuple[str, ...]
    width: bool = False

    @property
    def is_width(self) -> bool:
        """Whether the position counts channels: an argument of a layer, or a size of a parameter or buffer."""
        place = self.where
        return self.width or place[-1] in WIDTH_ARGUMENTS or (place[-1].isdecimal() and len(place) > 1)


Term = Lit | Ref | Text | Closure | Display | Call | Box | Either | Alias | Given | Hole


def same(first: Any, second: Any) -> bool:
    """Equality that tells 1 from True and 1.0."""
    if isinstance(first, Lit) and isinstance(second, Lit):
        return _same_value(first.value, second.value)
    if isinstance(first, Ref) and isinstance(second, Ref):
        return first.value is second.value or (type(first.value) is type(second.value) and first.value == second.value)
    if isinstance(first, Given) and isinstance(second, Given):
        return first.value is second.value
    if type(first) is not type(second):
        return False
    if isinstance(first, Arg | Item):
        return first.name == second.name and same(first.value, second.value)
    if isinstance(first, Call):
        return first.fn is second.fn and _same_all(first.args, second.args)
    if isinstance(first, Closure):
        return first.node is second.node and _same_all(first.args, second.args)
    if isinstance(first, Box):
        return first.fn is second.fn and _same_all(first.items, second.items)
    if isinstance(first, Display):
        return first.kind == second.kind and _same_all(first.items + first.keys, second.items + second.keys)
    return bool(first == second)


def _same_all(first: Sequence[Any], second: Sequence[Any]) -> bool:
    return len(first) == len(second) and all(same(a, b) for a, b in zip(first, second, strict=True))


def _same_value(first: Any, second: Any) -> bool:
    if type(first) is not type(second):
        return False
    if isinstance(first, tuple | list):
        return len(first) == len(second) and all(_same_value(a, b) for a, b in zip(first, second, strict=True))
    if isinstance(first, dict):
        return list(first) == list(second) and all(_same_value(first[k], second[k]) for k in first)
    return bool(first == second) or (first != first and second != second)


def same_vector(first: Sequence[Term | None], second: Sequence[Term | None]) -> bool:
    """Equal wherever both have a value."""
    return all(a is None or b is None or same(a, b) for a, b in zip(first, second, strict=True))


def value_of(term: Term) -> Any:
    """The Python value of a literal, a reference or an object handed over. Raises LookupError for anything else."""
    if isinstance(term, Lit | Ref | Given):
        return term.value
    raise LookupError(term)


def made_of(term: Term) -> Any:
    """What a term makes: of a call what it gives. Raises LookupError where only the written constructor makes it."""
    if isinstance(term, Display):
        items = [made_of(t) for t in term.items]
        pairs = zip(map(made_of, term.keys), items, strict=False)
        return dict(pairs) if term.kind == "dict" else tuple(items) if term.kind == "tuple" else items
    if isinstance(term, Call):
        given = [made_of(a.value) for a in term.args if a.positional]
        return term.fn(*given, **{a.name: made_of(a.value) for a in term.args if not a.positional})
    return value_of(term)


def for_instance(term: Term, index: int) -> Term | None:
    """The term of one instance again: every hole is filled with the value of that instance."""
    if isinstance(term, Hole):
        return term.values[index]
    if isinstance(term, Either):
        return for_instance(term.yes if term.sides[index] else term.no, index)
    if isinstance(term, Call):
        args = [(a, for_instance(a.value, index)) for a in term.args]
        return Call(term.fn, tuple(replace(a, value=v) for a, v in args if v is not None))
    if isinstance(term, Closure):
        args = [(a, for_instance(a.value, index)) for a in term.args]
        return replace(term, args=tuple(replace(a, value=v) for a, v in args if v is not None))
    return term


def is_plain(value: Any) -> bool:
    """Whether ``repr`` of the value is Python source for it."""
    if value is None or type(value) in (bool, int, float, str, bytes, complex):
        return True
    if type(value) in (tuple, list, set, frozenset, torch.Size):
        return all(is_plain(v) for v in value)
    return type(value) is dict and all(is_plain(k) and is_plain(v) for k, v in value.items())


def parameter_call(tensor: torch.Tensor | None, usual: torch.dtype) -> Term:
    if tensor is None:
        return Lit(None)
    grad = Arg("requires_grad", Lit(tensor.requires_grad), Lit(True))
    return Call(nn.Parameter, (Arg("data", tensor_call(tensor, torch.zeros, usual), positional=True), grad))


def tensor_call(tensor: torch.Tensor, create: object, usual: torch.dtype) -> Call:
    """``usual``: the floating type that needs no mention."""
    sizes = tuple(Arg(str(i), Lit(int(n)), positional=True) for i, n in enumerate(tensor.shape))
    sizes = sizes or (Arg("size", Lit(()), positional=True),)
    default = usual if tensor.is_floating_point() else torch.get_default_dtype()
    return Call(create, (*sizes, Arg("dtype", Ref(tensor.dtype), Ref(default))))


def small_tensor(value: object) -> Call | None:
    """A literal of a tensor that is small enough for one."""
    return literal_tensor(value) if isinstance(value, torch.Tensor) and value.numel() <= FEW else None


def literal_tensor(tensor: torch.Tensor) -> Call:
    values = Arg("data", Lit(dense(tensor).tolist()), positional=True)
    return Call(torch.tensor, (values, Arg("dtype", Ref(tensor.dtype))))
