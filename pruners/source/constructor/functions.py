"""The text of functions that a constructor makes."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ...places import Span
from ..live import Closure
from ..text import span_of, stored_names


def placed_in(term: Closure, expr: ast.expr, template: str, text: str) -> Iterator[tuple[Span, str]]:
    """Where a value goes: a stale number has one place, a name all where it is read."""
    if template:
        yield span_of(expr), template.replace("{}", text)
    elif isinstance(expr, ast.Name) and text != expr.id:
        stale = [e for e, t in zip(term.exprs, term.templates, strict=True) if t == "{}"]
        edited = {id(n) for e in stale for n in ast.walk(e)}
        for use in ast.walk(term.node):
            if isinstance(use, ast.Name) and use.id == expr.id and id(use) not in edited:
                yield span_of(use), text if text.replace("_", "a").replace(".", "a").isalnum() else f"({text})"


def names_bound(node: ast.expr | ast.stmt) -> set[str]:
    """A function's name, its parameters and its local names."""
    inner = [n for n in ast.walk(node) if isinstance(n, ast.arg | ast.FunctionDef)]
    return {n.arg if isinstance(n, ast.arg) else n.name for n in inner} | stored_names(node)
