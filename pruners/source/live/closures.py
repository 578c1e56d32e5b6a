"""Functions that a constructor makes: lambdas and local functions that read its names."""

from __future__ import annotations

import ast
import builtins
import inspect
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from ...places import LiteralSite, Span
from ..text import (
    FunctionNode,
    SourceFile,
    call_around,
    encloses,
    is_usable_name,
    last_word,
    loaded_names,
    span_of,
    stored_names,
)
from .terms import Alias, Arg, Call, Closure, Lit, Term, is_plain

Made = ast.Lambda | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Renewal:
    """What kept functions of one module say now. ``sites``: stale numbers; ``paths``: of modules, by identity."""

    sites: Sequence[LiteralSite] = ()
    path: str = ""
    paths: Mapping[int, str] | None = None
    tensors: bool = False  # whether small ones have a term, which says their values

    def number(self, site: LiteralSite, function: types.FunctionType, expr: ast.expr, given: Mapping[str, Any]) -> Any:
        """The number at a site for a function of the module; one that was right as it is is found by evaluating."""
        owners = [id(v) for v in cells(function).values() if isinstance(v, nn.Module)]
        known = self.paths or {}
        for path in (self.path, *(known[o] for o in owners if o in known)):
            if path in site.values:
                return site.values[path]
        return _evaluated(expr, function, given)


    def place(self, module: nn.Module) -> str | None:
        """How the module's own methods reach one inside it: ``self.mlp``, ``self.layers[0]``."""
        path, prefix = (self.paths or {}).get(id(module)), f"{self.path}." if self.path else ""
        if not path or not path.startswith(prefix):
            return None
        parts = path.removeprefix(prefix).split(".")
        if parts[0].isdecimal() or not all(p.isdecimal() or is_usable_name(p) for p in parts):
            return None
        return "self" + "".join(f"[{p}]" if p.isdecimal() else f".{p}" for p in parts)


NOTHING_NEW = Renewal()


def cells(function: types.FunctionType) -> dict[str, Any]:
    """The names of the surrounding function that a function reads, with their values."""
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue  # it had no value yet
    return found


def holds(function: types.FunctionType, site: LiteralSite) -> bool:
    """Whether a stale number stands in a function that another function made."""
    code = function.__code__
    local = "<locals>" in function.__qualname__ or function.__name__ == "<lambda>"
    lines = [n for _, _, n in code.co_lines() if n is not None]
    return local and code.co_filename == site.file and min(lines) <= site.line <= site.end_line <= max(lines)


def closure(function: types.FunctionType, node: Made, file: SourceFile, new: Renewal, read: Any) -> Closure:
    """The term of a function. ``read``: makes terms of the values that it reads. Raises LookupError."""
    if function.__defaults__ or function.__kwdefaults__:
        raise LookupError(f"the defaults of the function of line {node.lineno} can't be written; make it a method")
    exprs: list[ast.expr] = []
    args: list[Arg] = []
    templates: list[str] = []
    for site, expr in _inside(node, new.sites, file):
        number = new.number(site, function, expr, cells(function))
        if site.keyword or not is_plain(number):
            raise LookupError(f"the number in line {site.line} can't be written in a function made by another one")
        exprs.append(expr)
        around = call_around(ast.walk(node), site.span)  # it says what the number is for
        args.append(Arg(last_word(around and around.func) or "width", Lit(number)))
        templates.append(site.template)
    stale = [e for e, t in zip(exprs, templates, strict=True) if t == "{}"]
    for name, value in cells(function).items():
        uses = _uses(node, name, stale)
        if not uses or name == "self":
            continue
        place = new.place(value) if isinstance(value, nn.Module) else None
        if isinstance(value, nn.Module) and place is None:
            raise LookupError(f"the function of line {node.lineno} reads the module {name}; make it a method")
        exprs.append(uses[0])
        args.append(Arg(name, Alias(place) if place is not None else read(value)))
        templates.append("")
    return Closure(node, file, tuple(exprs), tuple(args), tuple(templates), function.__code__)


def _uses(node: Made, name: str, stale: Iterable[ast.expr]) -> list[ast.Name]:
    """Where a function reads a name, but for its stale numbers."""
    edited = {id(n) for e in stale for n in ast.walk(e)}
    return [n for n in ast.walk(node) if isinstance(n, ast.Name) and n.id == name and id(n) not in edited]


def placed_in(term: Closure, expr: ast.expr, template: str, text: str) -> Iterator[tuple[Span, str]]:
    """Where a value goes: a stale number has one place, a name all where it is read."""
    if template:
        yield span_of(expr), template.replace("{}", text)
    elif isinstance(expr, ast.Name) and text != expr.id:
        stale = [e for e, t in zip(term.exprs, term.templates, strict=True) if t == "{}"]
        for use in _uses(term.node, expr.id, stale):
            yield span_of(use), text if text.replace("_", "a").replace(".", "a").isalnum() else f"({text})"


def names_bound(node: Made) -> set[str]:
    """A function's name, its parameters and its local names."""
    inner = [n for n in ast.walk(node) if isinstance(n, ast.arg | ast.FunctionDef)]
    return {n.arg if isinstance(n, ast.arg) else n.name for n in inner} | stored_names(node)


def made_by_call(function: types.FunctionType, node: Made, new: Renewal, read: Any) -> Call | None:
    """``power(2)`` for a function that a global function of its file made; None if it isn't made so."""
    outer, _, rest = function.__qualname__.partition(".<locals>.")
    maker = function.__globals__.get(outer)
    if not isinstance(maker, types.FunctionType) or maker.__qualname__ != outer or "<locals>" in rest:
        return None
    if maker.__code__.co_filename != function.__code__.co_filename:
        return None
    known, parameters = cells(function), inspect.signature(maker).parameters
    found: dict[str, Term] = {}
    for name, parameter in parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or name not in known:
            return None
        found[name] = read(known[name])
    numbers = given_anew(function, node, known, new)
    if numbers is None:
        return None
    found |= {n: Lit(v) for n, v in numbers.items()}
    return Call(maker, tuple(Arg(n, t, _default(parameters[n]), True) for n, t in found.items()))


def given_anew(
    function: types.FunctionType, node: Made, given: Mapping[str, Any], new: Renewal
) -> dict[str, object] | None:
    """What a function has to be given for its stale numbers; None if no values of its names do it."""
    found: dict[str, object] = {}
    stale = [(s, _at(node, s)) for s in new.sites if s.file == function.__code__.co_filename]
    for site, expr in stale:
        if expr is None:
            continue
        if not isinstance(expr, ast.Name) or expr.id not in given or site.template != "{}" or site.keyword:
            return None
        number = new.number(site, function, expr, given)
        if found.setdefault(expr.id, number) != number or not is_plain(number):
            return None
    known = [e for _, e in stale]
    others = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and n not in known}
    return None if any(n in others and v != given[n] for n, v in found.items()) else found


def rebinds(maker: FunctionNode, names: Sequence[str]) -> bool:
    """Whether a function gives its parameters other values before its inner function reads them."""
    return bool(set(names) & set().union(*(stored_names(s) for s in maker.body)))


def _default(parameter: inspect.Parameter) -> Term | None:
    return Lit(parameter.default) if parameter.default is not parameter.empty and is_plain(parameter.default) else None


def _inside(node: Made, sites: Sequence[LiteralSite], file: SourceFile) -> list[tuple[LiteralSite, ast.expr]]:
    found = [(s, e) for s in sites if s.file == file.name and (e := _at(node, s)) is not None]
    return sorted(found, key=lambda pair: (pair[0].line, pair[0].col))


def _at(node: Made, site: LiteralSite) -> ast.expr | None:
    return next((n for n in ast.walk(node) if isinstance(n, ast.expr) and span_of(n) == site.span), None)


def _evaluated(expr: ast.expr, function: types.FunctionType, given: Mapping[str, Any]) -> Any:
    names = {**vars(builtins), **function.__globals__, **given}
    if not loaded_names(expr) <= set(names):
        raise LookupError(f"the number in line {expr.lineno} isn't known for every module")
    try:
        return eval(compile(ast.Expression(expr), "<author>", "eval"), names)
    except Exception as error:
        raise LookupError(f"the number in line {expr.lineno} can't be computed: {error}") from error


def with_equal_sides(file: SourceFile | None, edits: Mapping[Span, str]) -> dict[Span, str]:
    """The same edits, but of ``4 if small else 8`` whose sides are both 4 then, the whole is 4."""
    found = dict(edits)
    for node in ast.walk(file.tree) if file is not None else ():
        if isinstance(node, ast.IfExp) and file is not None:
            sides = [span_of(side) for side in (node.body, node.orelse)]
            texts = {edits.get(s, file.segment(n)) for s, n in zip(sides, (node.body, node.orelse), strict=True)}
            if len(texts) == 1 and set(sides) & edits.keys():
                whole = span_of(node)
                found = {s: t for s, t in found.items() if not encloses(whole, s)}
                found[whole] = texts.pop()
    return found
