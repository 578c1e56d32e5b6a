"""Puts a written constructor into the author's class and leaves out what nothing needs any more."""

from __future__ import annotations

import ast
from collections.abc import Set
from dataclasses import dataclass

from pruners.source.author import AuthorClass
from pruners.source.docs import without_entries
from pruners.source.files import SourceFile
from pruners.source.statements import dedented


@dataclass(frozen=True)
class Edit:
    """Replace the text of a span (lines from 1, columns in bytes) in an author's file."""

    span: tuple[int, int, int, int]
    text: str


@dataclass(frozen=True)
class ClassParts:
    """What of a class stays. ``methods``: names of methods; ``attributes``: names of class attributes."""

    init: list[str]
    methods: Set[str]
    attributes: Set[str]
    decorators: list[ast.expr]
    edits: tuple[Edit, ...] = ()
    gone: Set[str] = frozenset()  # arguments of the constructor that are no more


def class_text(author: AuthorClass, parts: ClassParts) -> str:
    """The class statement, at column 0."""
    file, node = author.file, author.node
    lines = edited(file, parts.edits)
    column = node.col_offset
    text = [f"@{file.segment(d)}" for d in parts.decorators]
    header_end = node.body[0].lineno - 1
    first = min([node.body[0].lineno, *(d.lineno for d in getattr(node.body[0], "decorator_list", ()))])
    header_end = first - 1
    text += dedented("".join(lines[node.lineno - 1 : header_end]).rstrip(), column)
    body = _body(node, parts, lines, column, header_end)
    return "\n".join([*text, *body]) + "\n"


def _body(node: ast.ClassDef, parts: ClassParts, lines: list[str], column: int, start: int) -> list[str]:
    text: list[str] = []
    placed = False
    for i, stmt in enumerate(node.body):
        first = min([stmt.lineno, *(d.lineno for d in getattr(stmt, "decorator_list", ()))])
        above = dedented("".join(lines[start : first - 1]), column) if first - 1 > start else []
        start = stmt.end_lineno or start
        own = dedented("".join(lines[first - 1 : start]), column)
        is_init = isinstance(stmt, ast.FunctionDef) and stmt.name == "__init__"
        if is_init:
            own, placed = parts.init, True
        if i == 0 and isinstance(stmt, ast.Expr):
            own = without_entries(own, parts.gone)
        if (is_init and parts.init) or (not is_init and _stays(stmt, i, parts)):
            text += [*above, *own]
        if not placed and parts.init and not is_init and isinstance(stmt, ast.FunctionDef):
            placed = True
    while text and not text[0].strip() and len(text) > 1:
        text.pop(0)
    return text or ["    pass"]


def _stays(stmt: ast.stmt, index: int, parts: ClassParts) -> bool:
    if isinstance(stmt, ast.FunctionDef | ast.AsyncFunctionDef):
        return stmt.name in parts.methods
    if isinstance(stmt, ast.Assign):
        names = {n.id for t in stmt.targets for n in ast.walk(t) if isinstance(n, ast.Name)}
        return bool(names & parts.attributes)
    if isinstance(stmt, ast.AnnAssign) and isinstance(stmt.target, ast.Name):
        return stmt.value is None or stmt.target.id in parts.attributes
    if isinstance(stmt, ast.Expr) and isinstance(stmt.value, ast.Constant):
        return index == 0
    return not isinstance(stmt, ast.Pass)


def edited(file: SourceFile, edits: tuple[Edit, ...]) -> list[str]:
    """The file's lines with the edits made; the number of lines stays."""
    lines = [s.encode() for s in file.lines]
    for edit in sorted(edits, key=lambda e: e.span, reverse=True):
        line, col, end_line, end_col = edit.span
        tail = lines[end_line - 1][end_col:]
        lines[line - 1] = lines[line - 1][:col] + edit.text.encode() + tail
        for i in range(line, end_line):
            lines[i] = b""
    return [s.decode() for s in lines]
