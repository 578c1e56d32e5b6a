"""Decorators that only take note of what they decorate: the written file does without them."""

from __future__ import annotations

import ast
import types

from ..text import SourceFile, definition_of, value_named
from .bindings import namespace_of, usual


def only_notes(decorator: ast.expr, file: SourceFile) -> bool:
    """Whether a decorator gives back the class or function it is given, so that dropping it changes nothing.

    Those of this project, and those that others made with ``block_decorator``, do; of others the code has to show it.
    """
    called = isinstance(decorator, ast.Call)
    found = value_named(decorator.func if isinstance(decorator, ast.Call) else decorator, namespace_of(file))
    home = str(getattr(found, "__module__", ""))
    if home.partition(".")[0] == __name__.partition(".")[0]:
        return True
    return isinstance(found, types.FunctionType) and not usual(home) and _hands_back(found, called)


def _hands_back(function: types.FunctionType, called: bool) -> bool:
    node = definition_of(function)
    if node is None or node.decorator_list or "__wrapped__" in vars(function):
        return False
    if not called:
        return _gives_its_argument(node)
    inner = {s.name: s for s in node.body if isinstance(s, ast.FunctionDef)}
    returned = [s.value.id for s in _returns(node) if isinstance(s.value, ast.Name)]
    return len(returned) == len(_returns(node)) > 0 and all(
        n in inner and _gives_its_argument(inner[n]) for n in returned
    )


def _gives_its_argument(node: ast.FunctionDef) -> bool:
    """Returns its first argument everywhere, and neither changes it nor hands it to ``setattr``."""
    if not node.args.args:
        return False
    name = node.args.args[0].arg
    returns = _returns(node)
    names = [n for n in ast.walk(node) if isinstance(n, ast.Name)]
    changed = any((n.id == name and not isinstance(n.ctx, ast.Load)) or n.id in ("setattr", "delattr") for n in names)
    for part in ast.walk(node):
        stores = isinstance(part, ast.Attribute) and not isinstance(part.ctx, ast.Load)
        changed |= stores and isinstance(part.value, ast.Name) and part.value.id == name  # type: ignore[attr-defined]
    gives = [r for r in returns if isinstance(r.value, ast.Name) and r.value.id == name]
    return not changed and len(gives) == len(returns) > 0


def _returns(node: ast.FunctionDef) -> list[ast.Return]:
    """Of the function itself, not of those inside it."""
    found: list[ast.Return] = []
    todo: list[ast.AST] = list(node.body)
    while todo:
        part = todo.pop()
        if isinstance(part, ast.Return):
            found.append(part)
        if not isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            todo += ast.iter_child_nodes(part)
    return found
