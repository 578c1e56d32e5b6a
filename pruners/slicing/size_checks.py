"""Checks in the author's code that compare a size with an attribute: ``assert x.shape[1] == self.dim``."""

from __future__ import annotations

import ast
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import Any

from torch import nn

from ..places import Site
from ..run import Modules, is_author_file, tree_of
from .expressions import AttributePatch, Stale, attribute_of

_HARMLESS = (ast.Name, ast.Attribute, ast.Subscript, ast.Constant, ast.UnaryOp, ast.USub, ast.Call, ast.expr_context)


def outdated(error: BaseException, model: nn.Module, modules: Modules) -> list[Stale]:
    """Attributes with which a check would not have failed; none where the error isn't that of such a check."""
    found = [f for f in traceback.walk_tb(error.__traceback__) if is_author_file(f[0].f_code.co_filename)]
    if not found:
        return []
    frame, line = found[-1]
    site = Site(frame.f_code.co_filename, line, frame.f_code.co_name)
    stale = []
    for one, other in _sides(frame, line):
        patch, size = attribute_of(one, frame, modules), _size(other, frame)
        if patch is not None and type(size) is int and _differs(patch, size, model):
            stale.append(Stale(patch, modules.current, site, size))
    return stale


def _differs(patch: AttributePatch, size: int, model: nn.Module) -> bool:
    holder = model.get_submodule(patch.module)
    held = getattr(holder, patch.attribute)
    return type(held) is int and held != size and not type(holder).__module__.startswith("torch.")


def _sides(frame: FrameType, line: int) -> Iterator[tuple[ast.expr, ast.expr]]:
    """What the check at the line compares for equality, both ways round."""
    tree = tree_of(frame.f_code.co_filename)
    for test in _tests(tree, line) if tree is not None else ():
        for node in ast.walk(test):
            if isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], (ast.Eq, ast.NotEq)):
                yield node.left, node.comparators[0]
                yield node.comparators[0], node.left


def _tests(tree: ast.Module, line: int) -> Iterator[ast.expr]:
    """Of ``assert test``, of ``if test: raise ...`` and of ``torch._assert(test, ...)``."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.stmt) or not node.lineno <= line <= (node.end_lineno or 0):
            continue
        raises = isinstance(node, ast.If) and any(isinstance(s, ast.Raise) and s.lineno <= line for s in node.body)
        if raises or isinstance(node, ast.Assert):
            yield node.test  # type: ignore[attr-defined]
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield from node.value.args[:1]


def _size(node: ast.expr, frame: FrameType) -> Any:
    """The value of ``x.shape[1]`` and its like; None for whatever is no size or could have an effect."""
    if not any(isinstance(part, ast.Attribute) and part.attr in {"shape", "size"} for part in ast.walk(node)):
        return None
    for part in ast.walk(node):
        calls = isinstance(part, ast.Call) and not (isinstance(part.func, ast.Attribute) and part.func.attr == "size")
        if calls or not isinstance(part, _HARMLESS):
            return None
    try:
        code = compile(ast.fix_missing_locations(ast.Expression(node)), "<size>", "eval")
        return eval(code, frame.f_globals, frame.f_locals)
    except (ArithmeticError, AttributeError, LookupError, NameError, RuntimeError, TypeError, ValueError):
        return None  # the check's own error is shown
