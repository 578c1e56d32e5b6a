"""An author's statement with other values in it, laid out and commented as the author has it."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from ...places import Span
from .files import SourceFile, span_of
from .statements import same_code

Edit = tuple[ast.expr, ast.expr]


def replaced(file: SourceFile, place: Span, parts: Sequence[tuple[Span, str]]) -> str:
    """The text of a place with these expressions in it."""
    text, end = "", place[:2]
    for span, new in sorted(parts):
        text += file.span(*end, *span[:2]) + new
        end = span[2:]
    return text + file.span(*end, *place[2:])


def dedented(text: str, columns: int) -> list[str]:
    """Lines of a definition that stood so far to the right."""
    first, *rest = text.splitlines()
    return [first, *(row[columns:] if not row[:columns].strip() else row for row in rest)]


def spliced(file: SourceFile, stmt: ast.stmt, text: str) -> str | None:
    """The author's lines of a statement, with those expressions replaced that ``text`` has otherwise.

    None if the two are built differently, or if the lines hold other statements too.
    """
    new = ast.parse(text).body
    edits = _differences(stmt, new[0]) if len(new) == 1 else None
    if edits is None or file.span(stmt.lineno, 0, *span_of(stmt)[:2]).strip():
        return None
    parts = [(span_of(old), ast.get_source_segment(text, wanted) or "") for old, wanted in edits]
    _, _, line, column = span_of(stmt)
    behind = file.lines[line - 1].encode()[column:].decode().rstrip("\n")
    found = "\n".join(dedented(replaced(file, span_of(stmt), parts) + behind, stmt.col_offset))
    return found if same_code(text, found) else None


def _differences(old: ast.AST, new: ast.AST) -> list[Edit] | None:
    """The smallest expressions that differ; None if statements do."""
    if type(old) is type(new):
        pairs = _children(old, new)
        inner = [_differences(a, b) for a, b in pairs] if pairs is not None else [None]
        if all(found is not None for found in inner):
            return [edit for found in inner for edit in found or ()]
    return [(old, new)] if isinstance(old, ast.expr) and isinstance(new, ast.expr) else None


def _children(old: ast.AST, new: ast.AST) -> list[tuple[ast.AST, ast.AST]] | None:
    """Parts side by side; None if anything but the parts differs."""
    pairs: list[tuple[ast.AST, ast.AST]] = []
    for (_, first), (_, second) in zip(ast.iter_fields(old), ast.iter_fields(new), strict=True):
        both = (first, second) if isinstance(first, list) and isinstance(second, list) else ([first], [second])
        if len(both[0]) != len(both[1]):
            return None
        for a, b in zip(*both, strict=True):
            if isinstance(a, ast.AST) and isinstance(b, ast.AST):
                pairs.append((a, b))
            elif a != b or type(a) is not type(b):
                return None
    return pairs
