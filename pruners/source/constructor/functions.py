"""The text of functions that a constructor makes."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from ...places import Span
from ..live import Closure, span_of
from ..text import SourceFile


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
    inner = [n for n in ast.walk(node) if isinstance(n, ast.arg | ast.Name | ast.FunctionDef)]
    return {
        n.arg if isinstance(n, ast.arg) else n.id if isinstance(n, ast.Name) else n.name
        for n in inner
        if not (isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load))
    }


def replaced(file: SourceFile, node: ast.expr | ast.stmt, parts: Sequence[tuple[Span, str]]) -> str:
    """The function's text with these expressions in it."""
    text, end = "", (node.lineno, node.col_offset)
    for span, new in sorted(parts):
        text += file.span(*end, *span[:2]) + new
        end = span[2:]
    return text + file.span(*end, node.end_lineno or 0, node.end_col_offset or 0)


def dedented(text: str, columns: int) -> list[str]:
    """Lines of a definition that stood so far to the right."""
    first, *rest = text.splitlines()
    return [first, *(row[columns:] if not row[:columns].strip() else row for row in rest)]
