"""The author's statements that compute a buffer, found backwards from it and run again with the written names."""

from __future__ import annotations

import ast
import functools
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ...run import same_values
from ..author import Scope
from ..live import is_plain, reseeded, undisturbed, value_of
from ..text import first_word, loaded_names, only_call, stored_names
from .walk import own_attribute, setting_of

_RESULT = "_result_"


@dataclass(frozen=True)
class Preparation:
    """``statements`` before the expression; ``constants``: names that they read and their values, also ``config.dim``
    of objects that are gone, ``words`` those of the author's that have to become parameters."""

    statements: tuple[ast.stmt, ...]
    constants: Mapping[str, Any]
    words: frozenset[str]


def preparation(
    scope: Scope,
    stmt: ast.stmt,
    expr: ast.expr,
    wanted: Sequence[tuple[int, Any]],
    given: Mapping[int, Mapping[str, Any]],
) -> Preparation | None:
    """What has to run before ``expr`` so that it gives these objects (instance, object); None if nothing does.

    ``given``: what the author's constructor was given, by instance.
    """
    local = set(scope.author.parameters) | scope.author.stored
    needed = (loaded_names(expr) - stored_names(expr)) & local - set(scope.words)
    found: list[ast.stmt] = []
    for earlier in reversed(_before(scope.author.init, stmt)):
        if (changed(earlier) & needed) and not isinstance(earlier, ast.FunctionDef):
            found.insert(0, earlier)
            needed |= loaded_names(earlier) & local - set(scope.words)
    kept, found = found, [_local_part(s, scope.author.self_name) for s in found]
    if any(_touches(s, scope.author.self_name) for s in found):
        return None
    free = needed - _first_stored(found)
    values = {i: {n: given[i][n] for n in free if n in given[i]} for i, _ in wanted}
    if any(set(v) != free for v in values.values()):
        return None
    told = {i: _told(v, [*found, expr]) for i, v in values.items()}
    if not all(_gives(scope, found, expr, i, value, values[i]) for i, value in wanted):
        return None
    first = told[wanted[0][0]]
    words = frozenset(n for n in first if any(repr(v[n]) != repr(first[n]) for v in told.values()))
    order = [n for n in (*scope.author.parameters, *sorted(first)) if n in first.keys() - words]
    return Preparation(tuple(kept), {n: first[n] for n in dict.fromkeys(order)}, words)


def dotted(constants: Mapping[str, Any]) -> Mapping[str, Any]:
    """Those that an object's attributes had."""
    return {n: v for n, v in constants.items() if "." in n}


def _told(values: Mapping[str, Any], code: Iterable[ast.AST]) -> dict[str, Any]:
    """What the code reads of these names: plain values, of objects those of their attributes. Raises LookupError where
    it reads something else."""
    found = {n: v for n, v in values.items() if is_plain(v)}
    todo = list(code)
    while todo:
        node = todo.pop()
        dotted = ast.unparse(node).split(".") if isinstance(node, ast.Name | ast.Attribute) else [""]
        if dotted[0] not in values or dotted[0] in found:
            todo += ast.iter_child_nodes(node)
            continue
        value = functools.reduce(getattr, dotted[1:], values[dotted[0]])
        if not is_plain(value):
            raise LookupError(".".join(dotted))
        found[".".join(dotted)] = value
    return found


def _before(function: ast.AST | None, stmt: ast.stmt) -> list[ast.stmt]:
    """Statements that run before one, those of the branches around it included; none if a loop is around it."""
    found: list[ast.stmt] = []
    body: Sequence[ast.stmt] = getattr(function, "body", [])
    while body:
        at = next((i for i, s in enumerate(body) if s.lineno <= stmt.lineno <= (s.end_lineno or 0)), len(body))
        found += body[:at]
        around = body[at] if at < len(body) else stmt
        if around is stmt:
            return found
        if not isinstance(around, ast.If):
            return []
        inside = around.body[-1].end_lineno or 0
        body = around.body if stmt.lineno <= inside else around.orelse
    return []


def changed(stmt: ast.stmt) -> set[str]:
    """Local names that a statement assigns, or whose values it changes."""
    names = stored_names(stmt)
    for node in ast.walk(stmt):
        base: ast.AST | None = None
        if isinstance(node, ast.Subscript | ast.Attribute) and isinstance(node.ctx, ast.Store):
            base = node.value
        elif (call := only_call(node)) is not None and isinstance(call.func, ast.Attribute):
            base = call.func.value
        names |= {first_word(base)} if base is not None else set()
    return names - {""}


def changed_attributes(stmt: ast.stmt, owner: str) -> set[str]:
    """Attributes of the module that a statement changes without setting them: ``self.n += 1``, ``del self.rows[0]``,
    ``self.names.append(x)``, ``heappush(self.heap, x)``."""
    bases: list[ast.expr] = []
    for node in ast.walk(stmt):
        if isinstance(node, ast.AugAssign):
            bases.append(node.target)
        elif isinstance(node, ast.Subscript | ast.Attribute) and not isinstance(node.ctx, ast.Load):
            bases.append(node.value)
        elif (call := only_call(node)) is not None:
            bases += [*call.args, *([call.func.value] if isinstance(call.func, ast.Attribute) else [])]
    return {name for base in bases if (name := outermost(base, owner)) is not None}


def outermost(node: ast.expr, owner: str) -> str | None:
    """``names`` of ``self.names[0].first``."""
    while (name := own_attribute(node, owner)) is None and isinstance(node, ast.Subscript | ast.Attribute):
        node = node.value
    return name


def _first_stored(stmts: Iterable[ast.stmt]) -> set[str]:
    """Names that a statement gives a value before any of the statements reads them."""
    stored: set[str] = set()
    read: set[str] = set()
    for stmt in stmts:
        loops = {n for node in ast.walk(stmt) if isinstance(node, ast.For) for n in stored_names(node.target)}
        read |= loaded_names(stmt) - stored - loops
        stored |= stored_names(stmt) - read
    return stored


def _local_part(stmt: ast.stmt, owner: str) -> ast.stmt:
    """``x = y`` of ``self.x = x = y``."""
    own = setting_of(stmt, owner) if isinstance(stmt, ast.Assign) and len(stmt.targets) > 1 else None
    if own is None or not isinstance(stmt, ast.Assign):
        return stmt
    targets = [t for t in stmt.targets if own_attribute(t, owner) is None]
    return ast.copy_location(ast.Assign(targets, stmt.value), stmt)


def _touches(stmt: ast.stmt, owner: str) -> bool:
    """Whether a statement sets something on the module."""
    return owner in changed(stmt)


def _gives(
    scope: Scope,
    stmts: Sequence[ast.stmt],
    expr: ast.expr,
    index: int,
    wanted: Any,
    values: Mapping[str, Any],
) -> bool:
    code = ast.Module([*stmts, ast.Assign([ast.Name(_RESULT, ast.Store())], expr)], [])
    names = {**scope.author.globals, **values}
    for name, vector in scope.words.items():
        try:
            names[name] = value_of(vector[index]) if vector[index] is not None else None  # type: ignore[arg-type]
        except LookupError:
            continue
    if scope.author.self_name in loaded_names(code):
        scope.admit_attributes(code, scope.author.self_name)
        names[scope.author.self_name] = scope.live[index]
    with undisturbed():
        reseeded()
        exec(compile(ast.fix_missing_locations(code), "<author>", "exec"), names)
    return alike(names[_RESULT], wanted)


def _steps(code: types.CodeType) -> tuple[Any, ...]:
    """What a function does, wherever it is defined."""
    inner = (_steps(c) if isinstance(c, types.CodeType) else c for c in code.co_consts)
    return code.co_code, code.co_names, *inner


def alike(made: Any, wanted: Any, depth: int = 4) -> bool:
    """Whether two objects hold the same; of what can't be compared, such as a lock, only the type counts."""
    if made is wanted or type(made) is not type(wanted):
        return made is wanted or (isinstance(wanted, nn.Parameter) and alike(made, wanted.detach()))
    if isinstance(made, nn.Module):
        return False  # a copy of a layer is another one
    if isinstance(made, torch.Tensor):
        return made.dtype == wanted.dtype and same_values(made.detach(), wanted.detach().to(made.device))
    if isinstance(made, np.ndarray):
        return made.dtype == wanted.dtype and np.array_equal(made, wanted)
    if isinstance(made, list | tuple):
        return len(made) == len(wanted) and all(alike(a, b, depth) for a, b in zip(made, wanted, strict=True))
    if isinstance(made, dict):
        return list(made) == list(wanted) and all(alike(v, wanted[k], depth) for k, v in made.items())
    if isinstance(made, functools.partial):
        return alike([made.func, made.args, made.keywords], [wanted.func, wanted.args, wanted.keywords], depth)
    if isinstance(made, types.FunctionType):
        first, second = (
            (f.__defaults__, f.__kwdefaults__, [c.cell_contents for c in f.__closure__ or ()]) for f in (made, wanted)
        )
        return _steps(made.__code__) == _steps(wanted.__code__) and alike(first, second, depth)
    if type(made).__eq__ is not object.__eq__:
        return bool(made == wanted)
    return depth == 0 or alike(getattr(made, "__dict__", None), getattr(wanted, "__dict__", None), depth - 1)
