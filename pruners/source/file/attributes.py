"""Attributes that were set on modules from outside, and what of the author's modules the written ones don't hold."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Set
from typing import Any

from torch import nn

from ...run import INTERNAL
from ..author import differing, own
from ..constructor import alike
from ..live import cut_sizes, is_authored, is_plain, joined, literal, numbers_in, small_tensor
from ..text import STEP, targets_of
from .repairs import expression

Values = dict[str, Any]
_OURS = "_secateur_"  # what a decorator notes on a class


def set_from_outside(
    model: nn.Module, twin: nn.Module, was: Mapping[str, nn.Module], inside: Mapping[type, Set[str]],
    expected: Mapping[str, Values], read: Set[str],
) -> list[str]:  # fmt: skip
    """Statements for the end of the root's constructor that set on ``twin``'s layers what only ``model``'s have, or
    what they have otherwise, as the author's network of before has it (``was``): strides that the root has measured.

    ``inside``: attributes that a class's own code sets. ``expected``: by path and name what an attribute should be.
    ``read``: attributes that code reads which runs with the network: layers of libraries get those alone.
    Where all layers of a container have the same attributes, one loop sets them.
    """
    missing = {p: found for p, module in model.named_modules() if (found := _missing(module, twin, p, inside, read))}
    for path, found in missing.items():
        found |= {n: v for n, v in expected.get(path, {}).items() if n in found and is_plain(v)}
    lines: list[str] = []
    for path, module in model.named_modules():
        children = [joined(path, n) for n, _ in module.named_children()]
        names = {tuple(missing.get(p, ())) for p in children}
        if isinstance(module, nn.Sequential | nn.ModuleList) and len(children) > 1 and len(names) == 1 and any(names):
            lines += _loop(path, next(iter(names)), [missing.pop(p) for p in children])
    cut, made = cut_sizes(was.get(""), model), dict(twin.named_modules())
    for path, module in model.named_modules():
        if path and path in was and path in made:
            found = _otherwise(module, made[path], was[path], read)
            found = {n: v for n, v in found.items() if not numbers_in(v) & cut}  # where nobody reads it, it may follow
            missing.setdefault(path, {}).update(found)
    return lines + [f"{expression(p)}.{n} = {literal(v)}" for p, found in missing.items() for n, v in found.items()]


def losses(model: nn.Module, twin: nn.Module) -> list[str]:
    """``Class.name`` of the author's attributes and methods that the written classes don't have."""
    made = dict(twin.named_modules())
    found: dict[str, None] = {}
    for path, module in model.named_modules():
        cls, other = type(module), made.get(path)
        if other is None or not is_authored(cls) or not own(cls.__module__):
            continue
        names = [n for n in vars(module) if n not in INTERNAL and n not in vars(other)]
        there = set().union(*(vars(c) for c in type(other).__mro__ if is_authored(c)))
        names += [n for c in cls.__mro__ if is_authored(c) for n in vars(c) if n not in there]
        found |= dict.fromkeys(f"{cls.__qualname__}.{n}" for n in names if not n.startswith(("__", _OURS)))
    return list(found)


def stale(
    model: nn.Module, twin: nn.Module, was: Mapping[str, nn.Module], text: str, read: Set[str],
    expected: Mapping[str, Values], doubts: Set[tuple[str, str, str]],
) -> list[str]:  # fmt: skip
    """``Class.name`` of attributes for which the text says a number that a size of the module had and has no more, and
    ``Class.name.field`` of records that do.

    ``was``: the author's modules by path. ``read``: attributes that running code reads, which are right. ``expected``:
    by path and name what an attribute should be. ``doubts``: numbers of several widths: path, name, words for it.
    """
    said, made, found = _said(text), dict(twin.named_modules()), dict[str, None]()
    for path, module in model.named_modules():
        cls, other = type(module), made.get(path)
        if other is None or path not in was or not is_authored(cls) or not own(cls.__module__):
            continue
        cut, held = cut_sizes(was[path], other), _held(other)
        old, right = _held(was[path]), expected.get(path, {})
        found |= dict.fromkeys(sorted(words for p, name, words in doubts if p == path and name in held))
        for name, value in held.items():
            place = f"{cls.__qualname__}.{name}"
            if name in right:
                found |= dict.fromkeys(differing(right[name], value, place))
            elif cut and name not in read and is_plain(value) and value == old.get(name):
                found |= {place: None} if numbers_in(value) & cut & said.get(name, set()) else {}
    return list(found)


def _held(module: nn.Module) -> Values:
    """What a module has of its own and of its author's classes."""
    classes = [c for c in type(module).__mro__ if is_authored(c)]
    held = {n: v for c in reversed(classes) for n, v in vars(c).items() if not n.startswith("__")}
    return {**held, **{n: v for n, v in vars(module).items() if n not in INTERNAL}}


def _said(text: str) -> dict[str, set[int]]:
    """The numbers that stand where a file gives an attribute its value, by themselves or under another name."""
    found: dict[str, set[int]] = {}
    named: dict[str, set[int]] = {}
    stmts = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Assign | ast.AnnAssign)]
    for stmt, value in ((s, s.value) for s in stmts if s.value is not None):
        numbers = numbers_in([n.value for n in ast.walk(value) if isinstance(n, ast.Constant)])
        for target in targets_of(stmt):
            if isinstance(target, ast.Name):
                named.setdefault(target.id, set()).update(numbers)
                found.setdefault(target.id, set()).update(numbers)
            elif isinstance(target, ast.Attribute):
                reads = {n.id for n in ast.walk(value) if isinstance(n, ast.Name)}
                found.setdefault(target.attr, set()).update(numbers, *(named.get(n, ()) for n in reads))
    return found


def _missing(
    module: nn.Module, twin: nn.Module, path: str, inside: Mapping[type, Set[str]], read: Set[str]
) -> Values:  # fmt: skip
    """Plain values on a layer of torch's, or that somebody else put on a module of the author's."""
    try:
        other = twin.get_submodule(path)
    except AttributeError:
        return {}
    librarys = is_authored(type(module)) and not own(type(module).__module__)
    own_code = set().union(*(inside.get(c, set()) for c in type(module).__mro__))
    extra = {n: v for n, v in vars(module).items() if n not in {*INTERNAL, *own_code, *vars(other)}}
    extra = {n: v for n, v in extra.items() if n in read or not librarys}
    return {n: v for n, v in extra.items() if n.isidentifier() and not n.startswith("_") and is_plain(v)}


def _otherwise(module: nn.Module, twin: nn.Module, before: nn.Module, read: Set[str]) -> Values:
    """What running code reads on a module and the author's constructors give it, but not those written so far."""
    made = vars(twin)
    held = {n: v for n, v in vars(module).items() if n in read and n not in INTERNAL and n in vars(before)}
    held = {n: v for n, v in held.items() if is_plain(v) or small_tensor(v) is not None}
    return {n: v for n, v in held.items() if n in made and alike(vars(before)[n], v) and not alike(made[n], v)}


def _loop(path: str, names: tuple[str, ...], rows: list[Values]) -> Iterator[str]:
    columns = [literal(tuple(row[n] for row in rows)) for n in names]
    targets = ", ".join(f"layer.{n}" for n in names)
    yield f"for {targets.replace('layer.', '')}, layer in zip({', '.join(columns)}, {expression(path)}):"
    yield f"{STEP}{targets} = {', '.join(names)}"
