"""Terms: what constructors would be given to make the live network, and how terms of several instances join."""

from __future__ import annotations

import ast
import types
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import nn

from ..text import SourceFile


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


class Origins(Protocol):
    """What is known about where modules were made."""

    def passed_in(self, path: str) -> bool:
        """Whether the module was handed to the constructor."""

    def took(self, code: types.CodeType) -> bool:
        """Whether a function with this code was handed to the constructor."""

    def made_at(self, path: str) -> Hashable | None:
        """The place in the constructor where the module was made."""

    def chosen(self, terms: Sequence[Term | None]) -> tuple[ast.IfExp, tuple[bool | None, ...]] | None:
        """The conditional expression of which one side or the other gave these modules and literals, and whether the
        first."""


def same(first: Any, second: Any) -> bool:
    """Equality that tells 1 from True and 1.0."""
    if isinstance(first, Lit) and isinstance(second, Lit):
        return _same_value(first.value, second.value)
    if isinstance(first, Ref) and isinstance(second, Ref):
        return first.value is second.value or (type(first.value) is type(second.value) and first.value == second.value)
    if isinstance(first, Given) and isinstance(second, Given):
        return first.value is second.value
    if isinstance(first, Arg) and isinstance(second, Arg):
        return first.name == second.name and same(first.value, second.value)
    if isinstance(first, Item) and isinstance(second, Item):
        return first.name == second.name and same(first.value, second.value)
    if type(first) is not type(second):
        return False
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


def unify(terms: Sequence[Term | None], where: tuple[str, ...], origins: Origins) -> Term:
    """The most specific term that all ``terms`` are instances of; where they differ it has a ``Hole``.

    ``terms`` has one place per instance of the class, None where the instance has nothing there. Modules that were
    made elsewhere and handed to the constructor stay whole.
    """
    present = [t for t in terms if t is not None]
    first = present[0]
    handed = any(p is not None and origins.passed_in(p) for t in present if isinstance(t, Call | Box) for p in t.paths)
    if isinstance(first, Closure):
        return _unify_closures(terms, first, where, origins)
    if not handed and isinstance(first, Call) and all(isinstance(t, Call) and _alike(first, t) for t in present):
        return _unify_calls(terms, first, where, origins)
    if not handed and isinstance(first, Box) and all(isinstance(t, Box) and t.fn is first.fn for t in present):
        return _unify_boxes(terms, first, where, origins)
    if not handed and all(same(first, t) for t in present):
        return first
    chosen = None if handed else _chosen(terms, where, origins)
    return chosen or Hole(tuple(terms), where)


def _chosen(terms: Sequence[Term | None], where: tuple[str, ...], origins: Origins) -> Either | None:
    """Modules of which some were made by one side of a conditional expression and some by the other, or None there."""
    if not all(t is None or isinstance(t, Lit) or (isinstance(t, Call | Box) and t.paths) for t in terms):
        return None
    found = origins.chosen(terms)
    if found is None:
        return None
    node, sides = found
    yes, no = ([t if s is side else None for t, s in zip(terms, sides, strict=True)] for side in (True, False))
    return Either(node, sides, unify(yes, where, origins), unify(no, where, origins))


def _alike(first: Call, second: Call) -> bool:
    return first.fn is second.fn and [a.name for a in first.args] == [a.name for a in second.args]


def _unify_calls(terms: Sequence[Term | None], first: Call, where: tuple[str, ...], origins: Origins) -> Call:
    args = []
    for i, arg in enumerate(first.args):
        column = [t.args[i] if isinstance(t, Call) else None for t in terms]
        value = unify([a.value if a is not None else None for a in column], (*where, arg.name), origins)
        show = any(a.show for a in column if a is not None)
        if arg.width and isinstance(value, Hole):
            value = replace(value, width=True)
        args.append(replace(arg, value=value, show=show))
    return Call(first.fn, tuple(args), _paths(terms))


def _unify_closures(terms: Sequence[Term | None], first: Closure, where: tuple[str, ...], origins: Origins) -> Term:
    """One function with other numbers in every instance; whole where it was handed to the constructor."""
    mine = first.node, first.exprs, first.templates
    alike = all(t is None or (isinstance(t, Closure) and (t.node, t.exprs, t.templates) == mine) for t in terms)
    if origins.took(first.code) or not alike:
        return Hole(tuple(terms), where)
    args = []
    for i, arg in enumerate(first.args):
        column = [t.args[i].value if isinstance(t, Closure) else None for t in terms]
        args.append(replace(arg, value=unify(column, (*where[:1], arg.name), origins)))
    return replace(first, args=tuple(args))


def _paths(terms: Sequence[Term | None]) -> tuple[str | None, ...]:
    return tuple(t.paths[0] if isinstance(t, Call | Box) and t.paths else None for t in terms)


def _unify_boxes(terms: Sequence[Term | None], first: Box, where: tuple[str, ...], origins: Origins) -> Term:
    boxes = [t if isinstance(t, Box) else None for t in terms]
    shapes = [[(i.name, _head(i.value)) for i in b.items] for b in boxes if b is not None]
    if all(s == shapes[0] for s in shapes):
        rows = [(item.name, [b.items[k].value if b else None for b in boxes]) for k, item in enumerate(first.items)]
        items = [Item(name, unify(column, (*where, name), origins)) for name, column in rows]
        return Box(first.fn, tuple(items), _paths(terms))
    chosen = _chosen(terms, where, origins)
    if chosen is not None:
        return chosen
    if all([n for n, _ in s] == [n for n, _ in shapes[0]] for s in shapes):
        columns = [[b.items[k].value if b else None for b in boxes] for k in range(len(first.items))]
        values = [unify(column, (*where, i.name), origins) for i, column in zip(first.items, columns, strict=True)]
        heads = [len({_head(t) for t in column if t is not None}) for column in columns]
        if all(n == 1 or isinstance(v, Either) for n, v in zip(heads, values, strict=True)):
            items = [Item(i.name, v) for i, v in zip(first.items, values, strict=True)]
            return Box(first.fn, tuple(items), _paths(terms))
    rows_ = _aligned(boxes, origins) if len(where) == 1 and issubclass(first.fn, nn.Sequential) else None
    if rows_ is None:
        return Hole(tuple(terms), where)
    items = []
    for k, column in enumerate(rows_):
        present = tuple(t is not None or b is None for t, b in zip(column, boxes, strict=True))
        items.append(Item(str(k), unify(column, (*where, str(k)), origins), None if all(present) else present))
    return Box(first.fn, tuple(items), _paths(terms))


def _head(term: Term) -> object:
    return term.fn if isinstance(term, Call | Box) else type(term)


def _aligned(boxes: Sequence[Box | None], origins: Origins) -> list[list[Term | None]] | None:
    """Elements of sequences of different lengths side by side: those that the same call of the author made.

    None if that is unknown, if a loop made several, or if no common order exists.
    """
    order: list[Hashable] = []
    found: list[dict[Hashable, Term]] = []
    for box in boxes:
        keys = [_made_at(i.value, origins) for i in box.items] if box else []
        if (
            None in keys
            or len(set(keys)) < len(keys)
            or any(not i.name.isdecimal() for i in (box.items if box else ()))
        ):
            return None
        found.append(dict(zip(keys, (i.value for i in box.items), strict=True)) if box else {})
        if _merge(order, keys) is None:
            return None
    return [[f.get(key) for f in found] for key in order]


def _made_at(term: Term, origins: Origins) -> Hashable | None:
    paths = [p for p in term.paths if p is not None] if isinstance(term, Call | Box) else []
    return origins.made_at(paths[0]) if paths else None


def _merge(order: list[Hashable], keys: Sequence[Hashable]) -> list[Hashable] | None:
    """Adds new keys to a common order; None if the two orders contradict each other."""
    known = [order.index(k) for k in keys if k in order]
    if known != sorted(known):
        return None
    at = 0
    for key in keys:
        if key not in order:
            order.insert(at, key)
        at = order.index(key) + 1
    return order


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
