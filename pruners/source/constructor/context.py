"""Everything known about one author's class while its constructor is written."""

from __future__ import annotations

import ast
import functools
import itertools
import types
from collections.abc import Hashable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import nn

from ...run import INTERNAL
from ..author import AuthorClass, Namer, call_in_constructor, equal_alike, fields_of, numbers_by_place, words_of
from ..live import (
    CHILD,
    Birth,
    Box,
    Call,
    Given,
    Lit,
    Making,
    Record,
    Renewal,
    Term,
    Tree,
    cut_sizes,
    is_authored,
    is_plain,
    joined,
    layers_in,
    same,
    term_of_value,
)
from ..text import encloses, span_of


@dataclass
class ClassContext:
    """``records``: one per instance, in the order of ``paths``. ``keep``: plain attributes that kept code reads.

    ``running``: attributes that code reads which runs with the network. ``whole``: whether all that the class holds
    stays, as it does in the author's own project.
    """

    tree: Tree
    author: AuthorClass
    paths: list[str]
    records: list[Record]
    bases: list[Call | Box | None]
    keep: set[str]
    running: Set[str]
    whole: bool = False
    tests: Sequence[ast.expr] = ()  # conditions on the module's own attributes alone, in code that runs
    waiting: set[str] = field(default_factory=set)  # attributes that follow numbers which aren't known yet
    more: set[str] = field(default_factory=set)  # attributes that nothing reads and that stay
    verbatim: set[str] = field(default_factory=set)  # attributes that the author's own statement makes again
    computing: Set[str] = frozenset()  # words behind dots whose values running code uses for more than ``==``
    compared: tuple[Set[str], Set[int]] = (frozenset(), frozenset())  # the words, and numbers, that it compares
    reads_here: Set[str] = frozenset()  # attributes that running code of the class itself reads
    traced: Mapping[str, tuple[Any, ...] | None] = field(default_factory=dict)  # what ``Replays.values`` gives
    doubtful: set[str] = field(default_factory=set)  # attributes that count channels, nobody knows how many now
    handed: set[str] = field(default_factory=set)  # modules that the constructor is given whatever the author does

    @cached_property
    def live(self) -> list[nn.Module]:
        return [self.tree.live[p] for p in self.paths]

    @cached_property
    def births(self) -> list[Birth | None]:
        return [self.tree.birth(p) for p in self.paths]

    @property
    def is_root(self) -> bool:
        return "" in self.paths

    def namer(self) -> Namer:
        """What names objects as the author's file does."""
        spelled, imported = self.author.init_file.spelled, set(self.tree.imported)
        return Namer(self.author.globals, self.tree.names, spelled, imported)

    def making(self, path: str | None) -> Making | None:
        """How a module came to be in the instance of this class that holds it."""
        return self.tree.making(path, self.paths)

    def line_of(self, index: int, name: str) -> int | None:
        """The line of an instance's constructor that led to the module under a name."""
        birth, owner = self.tree.birth(joined(self.paths[index], name)), self.births[index]
        return birth.line_in(owner.module) if birth is not None and owner is not None else None

    def passed_in(self, path: str) -> bool:
        """Whether the module was made elsewhere and handed to this class's constructor.

        The outermost class makes everything itself: nobody could hand it anything.
        """
        if path in self.handed:
            return True
        if self.is_root:
            return False
        making = self.making(path)
        return making is not None and making.depth is None

    def took(self, code: types.CodeType) -> bool:
        """Whether a function with this code was handed to this class's constructor."""
        given = [v for b in self.births if b is not None for v in b.arguments.values()]
        return not self.is_root and any(getattr(v, "__code__", None) is code for v in given)

    def made_at(self, path: str) -> Hashable | None:
        """The calls that led from this class's constructor to the module, by where they end."""
        making = self.making(path)
        if making is None or making.depth is None:
            return ("given", *making.given) if making is not None and making.given else None
        return tuple((f.file, f.end) for f in making.birth.frames[: making.depth + 1])

    def chosen(self, terms: Sequence[Term | None]) -> tuple[ast.IfExp, tuple[bool | None, ...]] | None:
        """The author's conditional expression of which one side or the other gave each module or literal, and whether
        the first."""
        made = [t.paths[0] if isinstance(t, Call | Box) else None for t in terms]
        if self.author.init is None or not any(made):
            return None
        file, sources = self.author.init_file, self.tree.sources
        calls = [call_in_constructor(self.making(p), file, sources) if p is not None else None for p in made]
        if any(c is None and p is not None for c, p in zip(calls, made, strict=True)):
            return None
        for node in map(conditional, ast.walk(self.author.init)):
            if node is not None:
                pairs = zip(terms, calls, strict=True)
                sides = tuple(_literal_side(node, t) if isinstance(t, Lit) else _side(node, c) for t, c in pairs)
                if {True, False} == {s for s, t in zip(sides, terms, strict=True) if t is not None}:
                    return node, sides
        return None

    def given(self, name: str) -> tuple[Term | None, ...] | None:
        """What the author's constructor got for a parameter, in every instance, but for modules."""
        values = []
        for birth in self.births:
            if birth is None or name not in birth.arguments:
                return None
            value = birth.arguments[name]
            values.append(self.term_of(value) or self._whole(value))
        return tuple(values) if all(v is not None for v in values) else None

    def held_as(self, index: int, name: str) -> str | None:
        """The attribute in which an instance keeps a function that its constructor was given for a parameter."""
        birth = self.births[index]
        value = birth.arguments.get(name) if birth is not None else None
        if birth is None or not isinstance(value, types.FunctionType | functools.partial):
            return None
        return next((n for n, v in vars(birth.module).items() if v is value and n in vars(self.live[index])), None)

    def nothing(self, name: str) -> bool:
        """Whether a name is None in every instance, or a dict of nothing else, as ``dtype`` often is."""
        found = [{**b.locals, **b.arguments}.get(name, self) if b is not None else self for b in self.births]
        return all(v is None or (type(v) is dict and v and set(v.values()) == {None}) for v in found)

    def left(self, name: str) -> tuple[Term | None, ...] | None:
        """The value of a local name when the author's constructor returned, if it is a literal, in every instance."""
        births = self.births
        if any(b is None or name not in b.locals for b in births):
            return None
        values = tuple(self.term_of(b.locals[name]) for b in births if b is not None)
        return values if all(v is not None for v in values) else None

    def term_of(self, value: Any, tensors: bool = False) -> Term | None:
        """What says a value, if it is no module and something does; ``tensors``: also if it holds small ones."""
        if isinstance(value, nn.Module):
            return None
        try:
            return term_of_value(value, self.tree.sources, Renewal(tensors=tensors))
        except LookupError:
            return None

    def _whole(self, value: Any) -> Given | None:
        """An object as it was handed over."""
        code = isinstance(value, type | types.FunctionType | types.MethodType) or any(layers_in(value))
        return None if code or self.is_root or id(value) in self.tree.unsaid else Given(value)

    def idle_counts(self, path: str) -> set[str]:
        """Attributes that count channels in other instances, where they had to change, and that nobody reads in this
        one: its number may follow too."""
        birth = self.tree.birth(path)
        was = vars(birth.module) if birth is not None else {}
        now = vars(self.tree.live[path])
        return {n for n in self._changed_counts & set(now) & set(was) if same(Lit(now[n]), Lit(was[n]))}

    @cached_property
    def _changed_counts(self) -> set[str]:
        held = [(vars(live), vars(b.module)) for live, b in zip(self.live, self.births, strict=True) if b is not None]
        return {n for now, was in held for n, v in now.items()
                if n in was and is_plain(v) and is_plain(was[n]) and not same(Lit(v), Lit(was[n]))}  # fmt: skip

    def from_outside(self, module: nn.Module) -> set[str]:
        """Attributes of a module that no code of its class gives a value."""
        classes = [c for c in type(module).__mro__ if is_authored(c) and issubclass(c, nn.Module)]
        nodes = [n for c in classes for n in ast.walk(self.tree.sources.of_class(c)[1])]
        if any(isinstance(n, ast.Name) and n.id in {"setattr", "vars"} for n in nodes):
            return set()
        own = {n.attr for n in nodes if isinstance(n, ast.Attribute)}
        own |= {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}
        return set(vars(module)) - own - INTERNAL

    @cached_property
    def torn(self) -> set[str]:
        """Children that stand before each other in one instance, and behind each other in another."""
        orders = {tuple(n for n, slot in record.items() if slot.kind == CHILD) for record in self.records}
        pairs = {pair for order in orders for pair in itertools.combinations(order, 2)} if len(orders) > 1 else set()
        return {name for first, name in pairs if (name, first) in pairs}

    @cached_property
    def cut(self) -> list[set[int]]:
        """Sizes of weights that are others now, as they were, of each instance."""
        return [cut_sizes(b.module if b is not None else None, m) for b, m in zip(self.births, self.live, strict=True)]

    def attributes(self) -> list[str]:
        """All attributes to write: those of all instances, merged so that everyone's order holds."""
        order: list[str] = []
        for record in self.records:
            merge(order, list(record))
        return [n for n in order if self.wanted(n)]

    def may_follow(self, name: str) -> bool:
        """Whether a plain attribute is there for scripts only."""
        return name not in self.running and (self.whole or name in self.keep)

    def may_change(self, name: str, before: Any, now: Any) -> bool:
        """Whether running code does the same with these numbers in a record or dict: it only compares them."""
        held, new = dict(numbers_by_place(before)), dict(numbers_by_place(now))
        words = set[str]().union(*(words_of(place) for place, n in held.items() if new.get(place) != n))
        words |= {name, *(f"{name}.{w}" for w in words)}
        record = fields_of(before) is not None or type(before) is dict
        return record and not words & self.computing and equal_alike(before, now, *self.compared)

    def wanted(self, name: str) -> bool:
        if name in self.waiting or name in self.doubtful:
            return False
        return name in self.keep or name in self.more or any(r[name].kind != "plain" for r in self.records if name in r)


def merge(order: list[Any], keys: Sequence[Any]) -> bool:
    """Adds new keys to a common order, behind those that they follow; whether the two orders agree."""
    known, at = [order.index(k) for k in keys if k in order], 0
    for key in keys:
        if key not in order:
            order.insert(at, key)
        at = order.index(key) + 1
    return known == sorted(known)


def _side(node: ast.IfExp, call: ast.Call | None) -> bool | None:
    """Which side of a conditional expression a call stands in."""
    if call is None:
        return None
    inside = [n for n in (node.body, node.orelse) if encloses(span_of(n), span_of(call))]
    return inside[0] is node.body if inside else None


def _literal_side(node: ast.IfExp, term: Lit) -> bool | None:
    """Which side of a conditional expression writes out a literal."""
    inside = [n for n in (node.body, node.orelse) if isinstance(n, ast.Constant) and same(Lit(n.value), term)]
    return inside[0] is node.body if len(inside) == 1 else None


def conditional(node: ast.AST) -> ast.IfExp | None:
    """A conditional expression, also one from before there were any: ``test and yes or no``."""
    if isinstance(node, ast.IfExp):
        return node
    match node:
        case ast.BoolOp(ast.Or(), [ast.BoolOp(ast.And(), [test, yes]), no]):
            return ast.copy_location(ast.IfExp(test, yes, no), node)
    return None
