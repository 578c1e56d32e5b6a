"""The names a written constructor may use, their value in every instance, and proofs that an expression fits."""

from __future__ import annotations

import ast
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from ..live import Given, Lit, Ref, Term, is_plain, made_of, same, value_of
from ..text import definition_of, loaded_names
from .classes import AuthorClass, Unproved, evaluate, proved

Vector = tuple[Term | None, ...]


class Scope:
    """``words``: names that text may use. ``hidden``: author's names whose values are known but that text can't use."""

    def __init__(self, author: AuthorClass, live: Sequence[nn.Module]) -> None:
        self.author = author
        self.live = live
        self.words: dict[str, Vector] = {}
        self.hidden: dict[str, Vector] = {}
        self.placed: set[str] = set()
        self.overrides: dict[str, Vector] = {}  # attributes that have another value in the written module

    def value(self, expr: ast.expr, index: int, hidden: bool = False) -> Any:
        """The expression's value in one instance, or Unproved."""
        vectors = {**self.hidden, **self.words} if hidden else self.words
        names: dict[str, Any] = {}
        for name in loaded_names(expr) & set(vectors):
            term = vectors[name][index]
            if term is None:
                raise Unproved(f"{name} has no value there")
            try:
                names[name] = value_of(term)
            except LookupError:
                names[name] = _Missing()  # a module: all that may be asked is whether it is there
        owner = self.author.self_name
        if owner in loaded_names(expr):
            self.admit_attributes(expr, owner)
            names[owner] = self.owner(index)
        return evaluate(expr, names, self.author.globals, set(self.author.parameters) | self.author.stored)

    def owner(self, index: int) -> Any:
        """One instance, with the attributes that the written module has."""
        there = {n: made_of(t) for n, v in self.overrides.items() if (t := v[index]) is not None}
        return _View(self.live[index], there) if there else self.live[index]

    def admit_attributes(self, expr: ast.AST, owner: str) -> None:
        """Raises Unproved unless all that the expression reads of the module is there at that point."""
        names = [n for n in ast.walk(expr) if isinstance(n, ast.Name) and n.id == owner]
        uses = [n for n in ast.walk(expr) if isinstance(n, ast.Attribute) and n.value in names]
        known = all(u.attr in self.placed or self._may_call(u.attr, {u.attr}) for u in uses)
        if len(uses) != len(names) or not known:
            raise Unproved("an attribute that isn't there yet")

    def _may_call(self, name: str, seen: set[str]) -> bool:
        """Whether a class attribute is a plain value, or a method that only reads what is there."""
        value = getattr(self.author.cls, name, _Missing)
        if is_plain(value):
            return True
        function = definition_of(value) if isinstance(value, types.FunctionType) else None
        if function is None or not function.args.args:
            return False
        owner = function.args.args[0].arg
        names = [n for n in ast.walk(function) if isinstance(n, ast.Name) and n.id == owner]
        uses = [n for n in ast.walk(function) if isinstance(n, ast.Attribute) and n.value in names]
        loads = len(uses) == len(names) and all(isinstance(u.ctx, ast.Load) for u in uses)
        rest = {u.attr for u in uses} - self.placed - seen
        return loads and all(self._may_call(n, seen | rest) for n in rest)

    def proves(
        self,
        expr: ast.expr,
        values: Iterable[tuple[int, Term | None]],
        hidden: bool = False,
        read: Callable[[Any], Any] = lambda value: value,
    ) -> bool:
        """Whether the expression gives these values, each in its instance, as ``read`` reads it."""
        return bool(proved(lambda: all(t is None or _is(read(self.value(expr, i, hidden)), t) for i, t in values)))


def _is(value: Any, term: Term) -> bool:
    return value is term.value if isinstance(term, Given) else same(as_term(value), term)


def as_term(value: Any) -> Term:
    """A term to compare with; a value that is no literal equals nothing but a reference to itself."""
    return Lit(value) if is_plain(value) else Ref(value)


def term_of_default(expr: ast.expr | None, outside: Mapping[str, Any]) -> Term | None:
    """What a parameter is where nobody gives it; None where it is required, or no value that a name gives."""
    try:
        value = evaluate(expr, {}, outside, set()) if expr is not None else _Missing()
    except Unproved:
        return None
    return as_term(value) if is_plain(value) or callable(value) else None


class _View:
    """A module with other values of some attributes."""

    def __init__(self, module: nn.Module, values: Mapping[str, Any]) -> None:
        self._module = module
        self._values = values

    def __getattr__(self, name: str) -> Any:
        return self._values[name] if name in self._values else getattr(self._module, name)


class _Missing:
    pass
