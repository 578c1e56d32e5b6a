"""An author's statement with other values in it, laid out and commented as the author has it."""

from __future__ import annotations

import ast
import textwrap
from itertools import accumulate

from .files import SourceFile
from .statements import same_code

Edit = tuple[ast.expr, ast.expr]


def spliced(file: SourceFile, stmt: ast.stmt, text: str) -> str | None:
    """The author's lines of a statement, with those expressions replaced that ``text`` has otherwise.

    None if the two are built differently, or if the lines hold other statements too.
    """
    new = ast.parse(text).body
    edits = _differences(stmt, new[0]) if len(new) == 1 else None
    lines = [s.encode() for s in file.lines[stmt.lineno - 1 : stmt.end_lineno]]
    if edits is None or lines[0][: stmt.col_offset].strip():
        return None
    starts = [0, *accumulate(map(len, lines))]
    whole = b"".join(lines)
    for old, wanted in sorted(edits, key=lambda e: (e[0].lineno, e[0].col_offset), reverse=True):
        begin = starts[old.lineno - stmt.lineno] + old.col_offset
        end = starts[(old.end_lineno or 0) - stmt.lineno] + (old.end_col_offset or 0)
        whole = whole[:begin] + (ast.get_source_segment(text, wanted) or "").encode() + whole[end:]
    found = textwrap.dedent(whole.decode()).rstrip("\n")
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
