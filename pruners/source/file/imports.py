"""The import statements of the generated file: the author's as they stood, then what else is needed."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import takewhile

from ..text import STEP, WIDTH, SourceFile
from .gather import Import

Sections = list[list[str]]  # lines, and empty lines between these


def import_sections(imports: Iterable[Import], author: SourceFile | None = None) -> Sections:
    """``author``: the file whose statements stay as they are as far as they are needed."""
    left = list(imports)
    sections = [] if author is None else _as_they_stood(left, author)
    return [*sections, *_sorted([i for i in left if not i.checkers]), *_for_checkers(left)]


def _as_they_stood(left: list[Import], author: SourceFile) -> Sections:
    """The author's statements that bind some of these names, which are taken out of ``left``."""
    sections: Sections = [[]]
    above = _end_of_top(author)
    for stmt in author.tree.body:
        if isinstance(stmt, ast.Import | ast.ImportFrom) and (bound := _bound(stmt)):
            between = author.lines[above : stmt.lineno - 1]
            if any(not line.strip() for line in between):
                sections.append([])
            if mine := [i for i in bound if i in left]:
                sections[-1] += _comments(between) + _lines(stmt, bound, mine, author)
                left[:] = [i for i in left if i not in mine]
        above = stmt.end_lineno or 0
    return [s for s in sections if s]


def _end_of_top(author: SourceFile) -> int:
    """How many lines the comment at the top has, or the docstring with what is above it."""
    first = next(iter(author.tree.body), None)
    if isinstance(first, ast.Expr):
        return first.end_lineno or 0
    return len(list(takewhile(lambda line: line.startswith("#") or not line.strip(), author.lines)))


def _comments(between: Sequence[str]) -> list[str]:
    """Those right above a statement."""
    return [line.rstrip() for line in takewhile(lambda line: line.startswith("#"), between[::-1])][::-1]


def _bound(stmt: ast.Import | ast.ImportFrom) -> list[Import]:
    if isinstance(stmt, ast.Import):
        return [Import(a.name, "", a.asname or a.name) for a in stmt.names]
    if stmt.level or stmt.module in (None, "__future__"):
        return []
    return [Import(str(stmt.module), a.name, a.asname or a.name) for a in stmt.names]


def _lines(
    stmt: ast.Import | ast.ImportFrom, bound: Sequence[Import], mine: list[Import], author: SourceFile
) -> list[str]:  # fmt: skip
    own = [line.rstrip() for line in author.lines[stmt.lineno - 1 : stmt.end_lineno]]
    if list(bound) == mine and len(ast.parse("\n".join(own)).body) == 1:
        return own
    return _from(mine[0].module, mine) if isinstance(stmt, ast.ImportFrom) else [_plain(i) for i in mine]


def _sorted(imports: Sequence[Import]) -> Sections:
    """Standard library, then the rest; in each section ``import x`` before ``from x import y``, as isort has it."""
    sections = []
    for standard in (True, False):
        mine = [i for i in imports if (i.module.partition(".")[0] in sys.stdlib_module_names) is standard]
        plain = sorted({_plain(i) for i in mine if not i.member}, key=str.lower)
        modules = sorted({i.module for i in mine if i.member}, key=str.lower)
        froms = [[i for i in mine if i.module == m and i.member] for m in modules]
        lines = plain + [line for found in froms for line in _from(found[0].module, sorted(found, key=_place))]
        if lines:
            sections.append(lines)
    return sections


def _for_checkers(imports: Sequence[Import]) -> Sections:
    """What only type checkers need stands last."""
    inner = _sorted([replace(i, checkers=False) for i in imports if i.checkers])
    return [["if TYPE_CHECKING:", *(STEP + line for section in inner for line in section)]] if inner else []


def _plain(wanted: Import) -> str:
    return f"import {wanted.module}" + ("" if wanted.name == wanted.module else f" as {wanted.name}")


def _from(module: str, wanted: Sequence[Import]) -> list[str]:
    names = [i.member if i.member == i.name else f"{i.member} as {i.name}" for i in wanted]
    line = f"from {module} import {', '.join(names)}"
    if len(line) <= WIDTH:
        return [line]
    return [f"from {module} import (", *(f"{STEP}{n}," for n in names), ")"]


def _place(wanted: Import) -> tuple[int, str, str]:
    """Constants, then classes, then the rest."""
    name = wanted.member
    kind = 0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2
    return kind, name.lower(), name
