"""The author's factory in the generated file: as it is, or with other arguments for the network's class."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping, Sequence, Set
from itertools import takewhile
from typing import Any

import libcst as cst

from ...entry import Entry
from ...places import Span
from ..author import as_term, attribute_reads, bind, call_in, namespace_of, own
from ..constructor import Parameter
from ..live import Birth, is_plain, literal, same
from ..text import (
    FunctionNode,
    SourceFile,
    Sources,
    arguments_of,
    defaults_of,
    loaded_names,
    parameters_of,
    replaced,
    span_of,
    stored_names,
    without_arguments,
)
from .edits import Edit
from .factory import source_of
from .gather import LAST, Chunk

_KINDS = ("posonly_params", "params", "kwonly_params")  # of libcst


def as_written(
    entry: Entry, arguments: Mapping[str, Any], sources: Sources, text_of: Callable[[ast.stmt, SourceFile], str]
) -> Chunk:
    """The author's factory, which makes the network with other numbers in his code. ``arguments``: those that it is
    called with become its defaults."""
    place = source_of(entry.factory, sources)
    assert place is not None
    text = text_of(place[1], place[0])
    return Chunk(place[1].name, place[0], LAST, _with_defaults(text, arguments))


def called(
    entry: Entry, root: type, parameters: Sequence[Parameter], birth: Birth | None, sources: Sources,
    text_of: Callable[[ast.stmt, SourceFile, Sequence[Edit]], str],
) -> Chunk | None:  # fmt: skip
    """The author's factory with the arguments that the written root class takes; None where the call isn't in it, or
    other code than this call would have to change. Parameters that it reads no more are gone."""
    place = source_of(entry.factory, sources)
    made = call_in(birth.frames[0], sources) if birth is not None and birth.frames else None
    if birth is None or place is None or made is None or made[0] is not place[0] or place[1].name != entry.name:
        return None
    (file, node), call = place, made[1]
    inside = any(n is call for n in ast.walk(node)) and node in file.tree.body and own(entry.factory.__module__)
    named = isinstance(call.func, ast.Name) and namespace_of(file).get(call.func.id) is root
    if not inside or not named or not _become_defaults(entry, call, parameters):
        return None
    arguments = _handed_on(call, root, parameters, birth, file)
    if arguments is None:
        return None
    text = text_of(node, file, [Edit(span_of(call), f"{ast.unparse(call.func)}({', '.join(arguments)})")])
    found = _without_unread(text, node)
    return None if found is None else Chunk(entry.name, file, LAST, _with_defaults(found, entry.kwargs))


def _become_defaults(entry: Entry, call: ast.Call, parameters: Sequence[Parameter]) -> bool:
    """Whether all that the user gave can be defaults: of the factory's parameters or, handed on by its ``**kwargs``, of
    the class's, which has them already."""
    takes = inspect.signature(entry.factory).parameters
    on = {k.value.id for k in call.keywords if k.arg is None and isinstance(k.value, ast.Name)}
    passed = any(p.kind is p.VAR_KEYWORD and p.name in on for p in takes.values())
    theirs = {p.name: p.default_text for p in parameters} if passed else {}
    given = entry.kwargs.items()
    return all(is_plain(v) and (n in takes or theirs.get(n) == literal(v)) for n, v in given)


def _handed_on(
    call: ast.Call, root: type, parameters: Sequence[Parameter], birth: Birth, file: SourceFile
) -> list[str] | None:
    """The arguments of the author's call that the written class takes as they are; None where it needs others."""
    bound = bind(call, list(parameters_of(root)))
    if bound is None:
        return None
    texts: dict[str, str] = {}
    for parameter in parameters:
        expr = bound.get(parameter.name)
        term = parameter.vector[0]
        given = as_term(birth.arguments.get(parameter.name))
        if expr is not None and (term is None or same(given, term)):
            texts[parameter.name] = file.segment(expr)
        elif parameter.default_text is None:
            return None
    words = {k.arg for k in call.keywords}
    first = takewhile(lambda p: p.name in texts.keys() - words and not p.keyword_only, parameters)
    arguments = [texts.pop(p.name) for p in first]
    arguments += [f"{name}={text}" for name, text in texts.items()]
    others = {p.name for p in parameters} & set(parameters_of(root)) - set(bound)
    return arguments + [f"**{file.segment(k.value)}" for k in call.keywords if k.arg is None and others]


def _without_unread(text: str, before: FunctionNode) -> str | None:
    """The function without the parameters and assignments that only the call had read; None where more depends on
    them."""
    module = cst.parse_module(text)
    gone = _loads(before.body) - _loads(_function(text).body)
    while True:
        function = cst.ensure_type(module.body[0], cst.FunctionDef)
        lines = [s for s in function.body.body if not _sets(s, gone)]
        function = function.with_changes(body=function.body.with_changes(body=lines))
        module = module.with_changes(body=[function])
        now = _loads(before.body) - _loads(_function(module.code).body)
        if now == gone:
            break
        gone = now
    if gone & set().union(*(stored_names(s) for s in _function(module.code).body)):
        return None
    params = function.params
    lists = {n: [p for p in getattr(params, n) if p.name.value not in gone] for n in _KINDS}
    if isinstance(params.star_kwarg, cst.Param) and params.star_kwarg.name.value in gone:
        params = params.with_changes(star_kwarg=None)
    if not lists["kwonly_params"]:
        params = params.with_changes(star_arg=cst.MaybeSentinel.DEFAULT)
    last = next((n for n in reversed(_KINDS) if lists[n]), None)
    if last is not None and params.star_kwarg is None and function.whitespace_before_params.empty:
        lists[last][-1] = lists[last][-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
    function = function.with_changes(params=params.with_changes(**lists))
    return without_arguments(module.with_changes(body=[function]).code, gone)


def _function(text: str) -> FunctionNode:
    node = ast.parse(text).body[0]
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    return node


def _loads(body: Sequence[ast.stmt]) -> set[str]:
    return set().union(*map(loaded_names, body))


def _sets(line: cst.CSTNode, names: Set[str]) -> bool:
    """Whether a line only gives one of these names a value."""
    if not isinstance(line, cst.SimpleStatementLine) or not isinstance(line.body[0], cst.Assign) or line.body[1:]:
        return False
    return all(isinstance(t.target, cst.Name) and t.target.value in names for t in line.body[0].targets)


def _with_defaults(text: str, values: Mapping[str, Any]) -> str:
    file = SourceFile.of(text)
    function, parts = _function(text), list[tuple[Span, str]]()
    for arg in (a for a in arguments_of(function) if a.arg in values):
        default, behind, now = defaults_of(function)[arg.arg], span_of(arg)[2:], literal(values[arg.arg])
        equals = " = " if arg.annotation is not None else "="
        parts.append(((*behind, *behind), equals + now) if default is None else (span_of(default), now))
    return replaced(file, file.whole, parts)


def gone_parameters(entry: Entry, text: str) -> list[str]:
    """``factory(parameter)`` for each that the author's own factory, or class, took and the written one doesn't."""
    factory = inspect.unwrap(entry.factory)
    kinds = (ast.FunctionDef, ast.ClassDef)
    node: Any = next((s for s in ast.parse(text).body if isinstance(s, kinds) and s.name == entry.name), None)
    if isinstance(node, ast.ClassDef):
        node = next((s for s in node.body if isinstance(s, ast.FunctionDef) and s.name == "__init__"), None)
    authored = inspect.isfunction(factory) or (inspect.isclass(factory) and node is not None)
    if node is None or not authored or not own(factory.__module__):
        return []
    stay = {a.arg for a in arguments_of(node)}
    return [f"{entry.name}({n})" for n in inspect.signature(factory).parameters if n not in stay]


def loaders(text: str) -> list[str]:
    """Functions of the written file that load weights where they are asked to: those of the widths before."""
    functions = [s for s in ast.parse(text).body if isinstance(s, ast.FunctionDef)]
    return [f.name for f in functions if "load_state_dict" in attribute_reads(f)]
