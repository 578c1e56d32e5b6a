"""Author's expressions for the arguments of a module, said in the names of the owner's constructor."""

from __future__ import annotations

import ast
import copy
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from ..live import Birth, Frame, Making
from ..text import (
    FunctionNode,
    SourceFile,
    Sources,
    defaults_of,
    encloses,
    loaded_names,
    parameters_of,
    span_of,
    stored_names,
    with_values,
)

Bound = dict[str, ast.expr]


def bind(call: ast.Call, names: list[str]) -> Bound | None:
    """Argument expressions by parameter name, without those of ``**kwargs``; None where ``*args`` hides them."""
    if any(isinstance(a, ast.Starred) for a in call.args):
        return None
    if len(call.args) > len(names):
        return None
    bound = dict(zip(names, call.args, strict=False))
    return bound | {k.arg: k.value for k in call.keywords if k.arg is not None}


def call_in(frame: Frame, sources: Sources) -> tuple[SourceFile, ast.Call] | None:
    """The call that a frame was in, with its file; None where the source doesn't show it."""
    file = sources.file(frame.file)
    call = file.calls.get(frame.end) if file else None
    return (file, call) if file and call else None


def argument_hints(birth: Birth, depth: int, sources: Sources, level: int = 0) -> Mapping[str, ast.expr]:
    """What the arguments of the module's constructor call are in the scope of frame ``depth``.

    ``level`` 1: those of the call of the helper function that made the module.
    """
    made = call_in(birth.frames[level], sources)
    if made is None:
        return {}
    names = list(parameters_of(birth.made_as))
    if level:
        helper = _function_in(birth.frames[level - 1], sources)
        names = list(defaults_of(helper)) if helper is not None else []
    bound = _said_around(bind(made[1], names) or {}, *made)
    for i in range(level, depth):
        bound = _one_scope_out(bound, birth.frames[i], birth.frames[i + 1], sources)
    return bound


def handed_in_loop(birth: Birth, depth: int, argument: str, sources: Sources) -> ast.expr | None:
    """What a constructor was given for an argument in a loop or comprehension of frame ``depth``, with the numbers of
    that turn in place of the loop's names."""
    made = call_in(birth.frames[0], sources)
    frames = birth.frames[: depth + 1]
    bound = bind(made[1], list(parameters_of(birth.made_as))) if made is not None else None
    inner = [f for f in frames[:-1] if not f.function.startswith("<")]  # up to Python 3.11, comprehensions have frames
    if made is None or bound is None or argument not in bound or inner:
        return None
    function = _function_in(frames[-1], sources)
    loops = [n for n in ast.walk(function) if isinstance(n, ast.For)] if function is not None else []
    around = [n for n in loops if n.lineno <= made[1].lineno <= (n.end_lineno or 0)]
    names = in_comprehensions(*made).union(*(stored_names(n.target) for n in around))
    numbers = {k: v for f in reversed(frames) for k, v in f.numbers.items()}
    turn = names & loaded_names(bound[argument])
    return with_values(bound[argument], {n: numbers[n] for n in turn}) if turn <= set(numbers) and turn else None


def call_in_constructor(making: Making | None, home: SourceFile, sources: Sources) -> ast.Call | None:
    """The call in the owner's constructor, which stands in the file ``home``, that led to a module."""
    made = call_in(making.birth.frames[making.depth], sources) if making and making.depth is not None else None
    return made[1] if made is not None and made[0] is home else None


def in_comprehensions(file: SourceFile, call: ast.Call) -> set[str]:
    """Names of the comprehensions around a call. From Python 3.12 on, those of lists have no frame of their own."""
    around = [n for n in file.comprehensions if encloses(span_of(n), span_of(call))]
    return {t.id for loop in around for g in loop.generators for t in ast.walk(g.target) if isinstance(t, ast.Name)}


def _said_around(bound: Bound, file: SourceFile, call: ast.Call) -> Bound:
    names = in_comprehensions(file, call)
    return {name: expr for name, expr in bound.items() if not names & loaded_names(expr)}


def _function_in(frame: Frame, sources: Sources) -> FunctionNode | None:
    """The function that a frame ran; up to Python 3.11 those of comprehensions have frames of their own, and none."""
    found = sources.function(frame.file, frame.function, frame.first_line)
    return found[1] if found is not None else None


def _one_scope_out(bound: Bound, inner: Frame, outer: Frame, sources: Sources) -> Bound:
    function = _function_in(inner, sources)
    if function is None:  # a comprehension: its own names are gone from ``bound`` already
        return bound if inner.function.startswith("<") and sources.file(inner.file) is not None else {}
    made = call_in(outer, sources)
    if made is None:
        return {}
    defaults = defaults_of(function)
    given = bind(made[1], list(defaults)[1 if inner.owner is not None else 0 :])
    if given is None:
        return {}
    hidden = any(k.arg is None for k in made[1].keywords)
    meaning = given if hidden else {n: d for n, d in defaults.items() if isinstance(d, ast.Constant)} | given
    outside: Bound = {}
    for name, expr in bound.items():
        visitor = _Substitute(meaning, _changed_by(function))
        found = visitor.visit(copy.deepcopy(expr))
        outside |= {} if visitor.failed else {name: found}
    return _said_around(outside, *made)


@lru_cache(maxsize=1024)
def _changed_by(function: FunctionNode) -> set[str]:
    return stored_names(function)


class _Substitute(ast.NodeTransformer):
    def __init__(self, meaning: Bound, changed: set[str]) -> None:
        self.meaning, self.changed, self.failed = meaning, changed, False

    def visit_Name(self, node: ast.Name) -> Any:
        if node.id in self.changed:
            self.failed = True
        elif node.id in self.meaning:
            return copy.deepcopy(self.meaning[node.id])
        return node

    def visit_Subscript(self, node: ast.Subscript) -> Any:
        """An entry of a list or dict that is written out stands alone; nobody would index one at once."""
        self.generic_visit(node)
        if not isinstance(node.value, ast.List | ast.Tuple | ast.Dict):
            return node
        found = _entry(node.value, node.slice)
        self.failed |= found is None
        return node if found is None else found

    def visit_Call(self, node: ast.Call) -> Any:
        self.generic_visit(node)
        counted = node.args[0] if isinstance(node.func, ast.Name) and node.func.id == "len" and node.args else None
        if isinstance(counted, ast.List | ast.Tuple) and not any(isinstance(e, ast.Starred) for e in counted.elts):
            return ast.Constant(len(counted.elts))
        return node


def _entry(display: ast.List | ast.Tuple | ast.Dict, index: ast.expr) -> ast.expr | None:
    """What a constant index finds in a display, if that is plain to see."""
    try:
        key = ast.literal_eval(index)
        if not isinstance(display, ast.Dict):
            return None if any(isinstance(e, ast.Starred) for e in display.elts) else display.elts[key]
        labels = [ast.literal_eval(k) for k in display.keys if k is not None]
    except (ValueError, TypeError, IndexError):
        return None
    found = [v for k, v in zip(labels, display.values, strict=False) if k == key]
    return found[-1] if found and len(labels) == len(display.keys) else None
