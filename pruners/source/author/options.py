"""Options of an author's: classes, objects and defaults that were made while his files were imported, made once more
from marked code."""

from __future__ import annotations

import argparse
import ast
import builtins
import collections
import copy
import dataclasses
import enum
import functools
import re
import types
from collections.abc import Iterator, Mapping, Set
from typing import Any

from torch import nn

from ..live import attempted, is_plain
from ..text import FunctionNode, SourceFile, filled_names, loaded_names, pairs_of, targets_of, value_named
from .bindings import own
from .marked import marked

_AGAIN = "line {} of {} can't run once more"
_HOLDERS = {dict, list, tuple, types.SimpleNamespace, collections.OrderedDict, argparse.Namespace}
_COPIES = {dataclasses.replace, copy.copy, copy.deepcopy, dataclasses.field}
_DEPTH = 4  # of records in records
Changed = list[tuple[dict[str, Any], str, Any]]  # namespace, name, what it meant


def is_options(value: Any) -> bool:
    """Whether a value is an object, or a dict, that holds what its maker gave it."""
    if isinstance(value, dict | types.SimpleNamespace | argparse.Namespace):
        return bool(value) if isinstance(value, dict) else True
    odd = isinstance(value, nn.Module | enum.Enum | types.FunctionType)
    kind = value if isinstance(value, type) else type(value)
    return not odd and not issubclass(kind, nn.Module) and own(kind.__module__)


def fields_of(value: Any) -> dict[str, Any] | None:
    """What a record holds by name: a namedtuple, a dataclass, a namespace, an object of an author's class."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return dict(zip(value._fields, value, strict=True))
    held = None if isinstance(value, type | dict | list | tuple) or not is_options(value) else value
    return getattr(held, "__dict__", None)


def with_fields(value: Any, fields: Mapping[str, Any]) -> Any:
    """A record of the same kind that holds these."""
    if isinstance(value, tuple):
        return type(value)(*fields.values())
    made = copy.copy(value)
    vars(made).update(fields)
    return made


def numbers_by_place(value: Any, place: str = "", depth: int = _DEPTH) -> Iterator[tuple[str, int]]:
    """The whole numbers in a value and where they stand in it: ``.widths[0]``."""
    fields = fields_of(value) if depth else None
    if isinstance(value, int) and not isinstance(value, bool):
        yield place, value
    elif fields is not None or (depth and type(value) is dict):
        inner = value.items() if fields is None else fields.items()
        for key, held in inner:
            yield from numbers_by_place(held, f"{place}.{key}" if fields else f"{place}[{key!r}]", depth - 1)
    elif depth and isinstance(value, list | tuple):
        for n, held in enumerate(value):
            yield from numbers_by_place(held, f"{place}[{n}]", depth - 1)


def differing(wanted: Any, held: Any, place: str) -> Iterator[str]:
    """Where a value like another one, perhaps of the same class in another file, holds other whole numbers."""
    fields = fields_of(wanted)
    if isinstance(wanted, int) and not isinstance(wanted, bool):
        yield from [place] if held != wanted else []
    elif fields is not None:
        for name, value in fields.items():
            yield from differing(value, getattr(held, name, value), f"{place}.{name}")
    elif isinstance(wanted, dict | list | tuple) and len(wanted) == len(held):
        for key in wanted if isinstance(wanted, dict) else range(len(wanted)):
            yield from differing(wanted[key], held[key], f"{place}[{key!r}]")


def words_of(place: str) -> set[str]:
    """The names in ``.layers[0].width``."""
    return set(re.findall(r"[^\W\d]\w*", place))


def equal_alike(first: Any, second: Any, words: Set[str], constants: Set[int]) -> bool:
    """Whether the same of the numbers with these words equal each other, and constants, in two such values."""
    one, two = ({p: n for p, n in numbers_by_place(v) if words_of(p) & words} for v in (first, second))
    pairs = [*((n, two.get(p)) for p, n in one.items()), *((c, c) for c in constants)]
    return one.keys() == two.keys() and all((a == b) == (c == d) for a, c in pairs for b, d in pairs)


def same_options(first: Any, second: Any) -> bool:
    """Whether two such values were made alike, but for whole numbers."""
    if isinstance(first, int) and isinstance(second, int):
        return first is second or not (isinstance(first, bool) or isinstance(second, bool))
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(map(same_options, first, second))
    if isinstance(first, dict) and isinstance(second, dict):
        return list(first) == list(second) and all(same_options(v, second[k]) for k, v in first.items())
    if isinstance(first, type) and isinstance(second, type):
        return (first.__module__, first.__qualname__) == (second.__module__, second.__qualname__)
    if is_options(first) and is_options(second):
        alike = type(first).__qualname__ == type(second).__qualname__
        return alike and same_options(getattr(first, "__dict__", {}), getattr(second, "__dict__", {}))
    return type(first) is type(second) and bool(first == second)


def remade(file: SourceFile, namespace: dict[str, Any], again: set[str]) -> Iterator[tuple[str, Any]]:
    """Makes the options at the top of a file once more, in its namespace. Gives each name, and what it meant.

    ``again``: names that mean something new there already, those made here are added.
    """
    for stmt in file.tree.body:
        name = _bound(stmt)
        new = name in namespace and _makes_options(stmt, namespace, again)
        if not new and not (filled_names(stmt) & again):
            continue
        before = namespace.get(name)
        ran = attempted(_AGAIN.format(stmt.lineno, file.name), functools.partial(_run, stmt, file, namespace))
        if not ran and new:
            namespace[name] = before
        elif new:
            again.add(name)
            yield name, before


def _run(stmt: ast.stmt, file: SourceFile, namespace: dict[str, Any]) -> bool:
    exec(marked(file, stmt), namespace)
    return True


def named_values(stmt: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    """The names that an assignment gives, and their expressions: two of ``a, b = 1, 2``."""
    targets, value = targets_of(stmt), getattr(stmt, "value", None)
    pairs = pairs_of(targets[0], value) if len(targets) == 1 and value is not None else []
    yield from ((t.id, v) for t, v in pairs if isinstance(t, ast.Name) and not isinstance(v, ast.Starred))


def _bound(stmt: ast.stmt) -> str:
    names = [n for n, _ in named_values(stmt)]
    return stmt.name if isinstance(stmt, ast.ClassDef) else names[0] if len(names) == 1 else ""


def _makes_options(stmt: ast.stmt, namespace: Mapping[str, Any], again: Set[str]) -> bool:
    if isinstance(stmt, ast.ClassDef):
        value = namespace[stmt.name]
        plain = type(value) is type and value.__module__ == namespace.get("__name__")
        decorators = [d.func if isinstance(d, ast.Call) else d for d in stmt.decorator_list]
        made = [getattr(value_named(d, namespace), "__module__", "") for d in decorators]
        return plain and not issubclass(value, nn.Module | enum.Enum | BaseException) and set(made) <= {"dataclasses"}
    value = stmt.value if isinstance(stmt, ast.Assign | ast.AnnAssign) else None
    calls = [n.func for n in ast.walk(value) if isinstance(n, ast.Call)] if value is not None else []
    if value is not None and not calls:
        return bool(loaded_names(value) & again)
    return bool(calls) and all(_holds_options(f, namespace, again) for f in calls)


def _holds_options(func: ast.expr, namespace: Mapping[str, Any], again: Set[str]) -> bool:
    """Whether a call makes an object that holds what it is given."""
    value = value_named(func, namespace) or value_named(func, vars(builtins))
    if isinstance(func, ast.Name) and func.id in again:
        return True
    if isinstance(func, ast.Attribute) and func.attr in ("_replace", "copy"):
        return bool(loaded_names(func) & again)
    held = isinstance(value, type) and issubclass(value, dict)
    return held or any(value is known for known in (*_HOLDERS, *_COPIES))


def defaults(
    function: types.FunctionType, node: FunctionNode, file: SourceFile, namespace: dict[str, Any], again: Set[str]
) -> tuple[tuple[Any, ...] | None, dict[str, Any] | None]:
    """What a function takes for arguments that nobody gives, with marked numbers."""
    args, first, second = node.args, function.__defaults__ or (), function.__kwdefaults__ or {}
    keywords = {a.arg: e for a, e in zip(args.kwonlyargs, args.kw_defaults, strict=True) if e is not None}
    if len(first) != len(args.defaults) or second.keys() != keywords.keys():
        return function.__defaults__, function.__kwdefaults__
    pairs = zip(args.defaults, first, strict=True)
    new = tuple(_evaluated(e, v, file, namespace, again) for e, v in pairs)
    named = {n: _evaluated(keywords[n], v, file, namespace, again) for n, v in second.items()}
    return new or function.__defaults__, named or function.__kwdefaults__


def _evaluated(expr: ast.expr, value: Any, file: SourceFile, namespace: dict[str, Any], again: Set[str]) -> Any:
    numbers = is_plain(value) and any(isinstance(n, ast.Constant) and type(n.value) is int for n in ast.walk(expr))
    calls = any(isinstance(n, ast.Call) for n in ast.walk(expr))
    if not (numbers and not calls) and not loaded_names(expr) & again:
        return value
    found = attempted(_AGAIN.format(expr.lineno, file.name), lambda: eval(marked(file, expr), namespace))
    return value if found is None else found
