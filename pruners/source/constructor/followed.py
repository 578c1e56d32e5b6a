"""Plain attributes that running the network doesn't read, but that scripts do: they follow the constructor's numbers.

A number stands for channels where the same expression gives a layer its size. ``self.embed_dim = 2 * c`` beside
``nn.Linear(2 * c, classes)`` is what that layer has now.
"""

from __future__ import annotations

import ast
import copy
import types
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from ..author import Unproved, Vector, as_term, attribute_reads, evaluate, proved
from ..live import CHILD, PLAIN, Call, Display, Lit, Slot, Term, is_authored, is_plain, same, value_of
from ..text import loaded_names, only_call, stored_names
from .buffer_statements import changed_attributes, outermost
from .context import ClassContext
from .walk import Walk, own_attribute, setting_of

Votes = Mapping[str, Vector | None]  # author's expression -> what stands there now, in each instance


def followed(context: ClassContext, walk: Walk) -> dict[str, ast.expr]:
    """Attributes to follow and their expressions: set once, by a statement of the constructor."""
    found: dict[str, ast.expr] = {}
    times = Counter(setting.attribute for setting in walk.settings)
    for setting in walk.settings:
        name, value = setting.attribute, setting.value
        kinds = {r[name].kind for r in context.records if name in r}
        if kinds != {PLAIN} or value is None or name in found or not context.may_follow(name):
            continue
        again = times[name] == 1 and (changed_later(context, name) or _is_as_set(context, name, value))
        if context.author.sets_once(name) or again:
            found[name] = value
    for name, value in _of_parents(context):
        kinds = {r[name].kind for r in context.records if name in r}
        if name not in found and kinds == {PLAIN} and context.may_follow(name):
            found[name] = value
    return found


def _is_as_set(context: ClassContext, name: str, expr: ast.expr) -> bool:
    """Whether an attribute that methods set, too, is what the constructor's expression gives, in every instance."""
    try:
        made = [_Now(context, i, {}).value(expr) for i in range(len(context.paths))]
    except (Unproved, LookupError):
        return False
    return all(is_plain(m) and m == vars(live).get(name) for m, live in zip(made, context.live, strict=True))


def _of_parents(context: ClassContext) -> Iterator[tuple[str, ast.expr]]:
    """Attributes that still have the values which the constructors of an author's parents write out."""
    for cls in context.author.cls.__mro__[1:]:
        init = vars(cls).get("__init__")
        if not is_authored(cls) or not isinstance(init, types.FunctionType):
            continue
        found = context.tree.sources.of_function(init)
        for stmt in found[1].body if found is not None else ():
            name, value = setting_of(stmt, init.__code__.co_varnames[0]) or ("", None)
            try:
                written = Lit(ast.literal_eval(value)) if value is not None else None
            except ValueError:
                continue
            if value is not None and all(same(Lit(vars(m).get(name)), written) for m in context.live):
                yield name, value


def changed_later(context: ClassContext, name: str) -> list[ast.stmt]:
    """The constructor's statements that change an attribute after it was set: ``self.names.append(x)``, ``self.add(x)``
    of a method that does."""
    owner, init = context.author.self_name, context.author.init
    body = init.body if init is not None else []
    return [s for s in body if name in changed_attributes(s, owner) | changed_by_methods(context, s)]


def changed_by_methods(context: ClassContext, stmt: ast.stmt) -> set[str]:
    """Attributes that methods which a statement calls make out of what they were: ``self.depth += 1``."""
    found, seen = set[str](), set[str]()
    todo: list[tuple[ast.AST, str]] = [(stmt, context.author.self_name)]
    while todo:
        tree, owner = todo.pop()
        called = {own_attribute(n.func, owner) for n in ast.walk(tree) if isinstance(n, ast.Call)} - seen - {None}
        seen |= called  # type: ignore[arg-type]
        for name in called:
            method: Any = getattr(context.author.cls, name or "", None)
            authors = isinstance(method, types.FunctionType) and not method.__module__.startswith("torch.")
            place = context.tree.sources.of_function(method) if authors else None
            if place is not None and place[1].args.args:
                own = place[1].args.args[0].arg
                found |= set().union(*(_made_of_itself(s, own) for s in ast.walk(place[1]) if isinstance(s, ast.stmt)))
                todo.append((place[1], own))
    return found


def _made_of_itself(stmt: ast.stmt, owner: str) -> set[str]:
    """Attributes that a statement changes in place or by a method of theirs, or sets to what is computed from them."""
    call = only_call(stmt)
    bases = [call.func.value] if call is not None and isinstance(call.func, ast.Attribute) else []
    bases += [stmt.target] if isinstance(stmt, ast.AugAssign) else []
    bases += [t for t in getattr(stmt, "targets", ()) if isinstance(t, ast.Subscript)]
    name, made = setting_of(stmt, owner) or ("", None)
    again = {name} if made is not None and name in attribute_reads(made) else set()
    return again | {found for base in bases if (found := outermost(base, owner)) is not None}


def without_terms(context: ClassContext, walk: Walk) -> dict[str, ast.expr]:
    """Attributes that are wanted and that no literal says: tensors, arrays, locks, objects of all kinds."""
    found: dict[str, ast.expr] = {}
    for setting in walk.settings:
        name = setting.attribute
        slots = [r[name] for r in context.records if name in r]
        opaque = slots and all(s.kind == PLAIN for s in slots) and any(s.term is None for s in slots)
        if opaque and setting.value is not None and context.wanted(name):
            found[name] = setting.value
    return found


def follow(context: ClassContext, name: str, expr: ast.expr, votes: Votes) -> bool:
    """Gives the records of an attribute the numbers that its expression has now; False where that can't be said."""
    owner = context.author.self_name
    column: list[Any] = []
    for i, record in enumerate(context.records):
        if name not in record:
            column.append(None)
            continue
        direct = votes.get(f"{owner}.{name}")
        try:
            if direct is not None and (term := direct[i]) is not None:
                column.append(value_of(term))
            else:
                column.append(_Now(context, i, votes).value(expr))
        except (Unproved, LookupError):
            return False
    if not all(v is None or is_plain(v) for v in column):
        return False
    renew(context, name, column)
    return True


def renew(context: ClassContext, name: str, values: Iterable[Any]) -> None:
    """Gives an attribute these values in the instances that have it."""
    for record, value in zip(context.records, values, strict=True):
        if name in record:
            term = Lit(value) if is_plain(value) else context.term_of(value)
            record[name] = Slot(PLAIN, _all_said(term) if term is not None else None)


def _all_said(term: Term) -> Term:
    """A term that leaves no number to a default, which may be another one in the written file."""
    if isinstance(term, Display):
        return replace(term, items=tuple(map(_all_said, term.items)))
    if not isinstance(term, Call):
        return term
    left = [isinstance(a.value, Lit) and type(a.value.value) is int for a in term.args]
    pairs = zip(term.args, left, strict=True)
    args = [replace(a, value=_all_said(a.value), default=None if n else a.default) for a, n in pairs]
    return replace(term, args=tuple(args))


def reads_a_part(context: ClassContext, expr: ast.expr) -> bool:
    """Whether an expression reads an attribute of a part of the module: ``self.stem.out_channels``."""
    owner = context.author.self_name
    parts = [own_attribute(n.value, owner) or "" for n in ast.walk(expr) if isinstance(n, ast.Attribute)]
    return any(n in r and r[n].kind == CHILD for n in parts for r in context.records)


def counts_channels(context: ClassContext, exprs: Iterable[ast.AST], votes: Votes) -> bool:
    """Whether an expression reads a name that stands in a size which is another one now."""
    names: set[str] = set().union(*map(_read, exprs))
    return any(_Now(context, i, votes).changed & names for i in range(len(context.paths)))


class _Now:
    """Expressions of one instance's constructor, with the numbers that its layers have now."""

    def __init__(self, context: ClassContext, index: int, votes: Votes) -> None:
        self.context = context
        self.index = index
        birth = context.births[index]
        again = context.author.stored - context.author.settled()
        given = {**birth.locals, **birth.arguments} if birth is not None else {}
        self.names = {n: v for n, v in given.items() if n not in again}
        self.names |= {context.author.self_name: birth.module} if birth is not None else {}
        self.votes = {text: v[index] for text, v in votes.items() if v is not None and v[index] is not None}
        self.changed = self._changed(votes)
        self.torn = self._torn()

    def _changed(self, votes: Votes) -> set[str]:
        """Names in expressions that have another value now, or several."""
        found: set[str] = set()
        for text, vector in votes.items():
            expr = ast.parse(text, mode="eval").body
            before = proved(partial(self._term_before, expr))
            now = vector[self.index] if vector is not None else None
            if vector is None or (now is not None and (before is None or not same(now, before))):
                found |= _read(expr)
        return found

    def _torn(self) -> set[str]:
        """Names of which other expressions don't follow: ``width`` where ``2 * width`` is not twice as much now."""
        found: set[str] = set()
        for text, term in self.votes.items():
            expr = ast.parse(text, mode="eval").body
            if isinstance(expr, ast.Name):
                continue
            now = proved(partial(self._term_before, self._replaced(expr, whole=False)))
            found |= _read(expr) if now is not None and not same(now, term) else set()
        return found

    def value(self, expr: ast.expr) -> Any:
        if isinstance(expr, ast.List | ast.Tuple):
            items = [self.value(e) for e in expr.elts]
            return items if isinstance(expr, ast.List) else tuple(items)
        if isinstance(expr, ast.Dict) and None not in expr.keys:
            return {self.value(k): self.value(v) for k, v in zip(expr.keys, expr.values, strict=True) if k is not None}
        named = isinstance(expr, ast.Call) and not expr.args and all(k.arg for k in expr.keywords)
        if isinstance(expr, ast.Call) and named and ast.unparse(expr.func) == "dict":
            return {k.arg: self.value(k.value) for k in expr.keywords}
        replaced = self._replaced(expr)
        if _read(replaced) & self.changed or (not isinstance(replaced, ast.Constant) and _read(expr) & self.torn):
            raise Unproved("a number of several widths")
        return self._evaluated(replaced)

    def _replaced(self, expr: ast.expr, whole: bool = True) -> ast.expr:
        """The expression with what its parts are now; ``whole``: or it as a whole."""
        votes = self.votes if whole else {t: v for t, v in self.votes.items() if t != ast.unparse(expr)}
        found: ast.expr = _Replaced(votes).visit(copy.deepcopy(expr))
        return found

    def _term_before(self, expr: ast.expr) -> Term:
        return as_term(self._evaluated(expr))

    def _evaluated(self, expr: ast.expr) -> Any:
        return evaluate(expr, self.names, self.context.author.globals, self.context.author.stored)


class _Replaced(ast.NodeTransformer):
    def __init__(self, votes: Mapping[str, Any]) -> None:
        self.votes = votes

    def visit(self, node: ast.AST) -> Any:
        term = self.votes.get(ast.unparse(node)) if isinstance(node, ast.expr) else None
        if term is None or not isinstance(term, Lit) or not is_plain(term.value):
            return super().visit(node)
        return ast.copy_location(ast.parse(repr(term.value), mode="eval").body, node)


def _read(expr: ast.AST) -> set[str]:
    """Names, and attributes of the module as ``self.name``."""
    dotted = {ast.unparse(n) for n in ast.walk(expr) if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)}
    owners = {d.partition(".")[0] for d in dotted}
    return dotted | (loaded_names(expr) - owners - stored_names(expr))
