"""Changes inside an author's statement: numbers that pruning changed, branches that can't run."""

from __future__ import annotations

import ast
import io
from dataclasses import dataclass, field
from functools import lru_cache

import libcst as cst

from ...errors import SourceError
from ...places import Site, Span
from ..text import Concrete, Folded, SourceFile, encloses, replaced, same_code, span_of
from .branches import Settled


@dataclass(frozen=True)
class Edit:
    """Replace the expression at a span (lines from 1, columns in bytes) in an author's file, or give the call there
    one more argument, named ``keyword``."""

    span: Span
    text: str
    keyword: str = ""


@dataclass(frozen=True)
class Changes:
    """What is different in a file's code. ``settled``: where an ``if`` stands of which only one branch can run."""

    edits: tuple[Edit, ...] = ()
    settled: Settled = field(default_factory=dict)


def with_edits(file: SourceFile, edits: tuple[Edit, ...]) -> Concrete:
    """The file for editing, with other expressions in it. Raises SourceError for a span that has no expression."""
    return _with_edits(file, edits) if edits else file.concrete


@lru_cache(maxsize=16)  # trees are large
def _with_edits(file: SourceFile, edits: tuple[Edit, ...]) -> Concrete:
    parts: dict[Span, str] = {}
    nodes = {span_of(n): n for n in ast.walk(file.tree) if isinstance(n, ast.expr)}
    for edit in edits:
        node = nodes.get(edit.span)
        node = node if isinstance(node, ast.Call) or not edit.keyword else None
        if node is None or not same_code(ast.unparse(node), f"({file.segment(node)})"):
            site = Site(file.name, edit.span[0], span=edit.span)
            raise SourceError(f"there is no expression from column {edit.span[1]} on to replace", site=site)
        more = _with_argument(file, node, edit) if edit.keyword and isinstance(node, ast.Call) else None
        parts |= dict([more or (edit.span, edit.text)])
    outer = [(s, t) for s, t in parts.items() if not any(encloses(o, s) and s[:2] < o[2:] for o in parts if o != s)]
    return Concrete(file.name, io.StringIO(replaced(file, file.whole, outer)).readlines(), file.tree)


def _with_argument(file: SourceFile, call: ast.Call, edit: Edit) -> tuple[Span, str]:
    """One more argument behind the last, laid out as those before it."""
    args: list[ast.expr | ast.keyword] = sorted([*call.args, *call.keywords], key=span_of)
    last, end = span_of(args[-1]), span_of(call)[2:]
    behind = file.span(*last[2:], end[0], end[1] - 1)
    parentheses = behind.partition("#")[0].rpartition(")")  # around the last
    closed = len(parentheses[0] + parentheses[1])
    between = file.span(*span_of(args[-2])[2:], *last[:2]) if args[1:] else ""
    comma = between if between.strip() == "," else ", "
    return (*last[2:], end[0], end[1] - 1), f"{behind[:closed]}{comma}{edit.keyword}={edit.text}{behind[closed:]}"


def without_settled(node: cst.CSTNode, concrete: Concrete, stmt: ast.stmt, settled: Settled) -> cst.CSTNode:
    """The tree of a statement without the branches in it that can't run."""
    inside = {p: t for p, t in settled.items() if stmt.lineno <= p[0] <= (stmt.end_lineno or 0)}
    ifs: dict[cst.CSTNode, bool] = {concrete.at(p).node: truth for p, truth in inside.items()}
    result = node.visit(Folded(ifs)) if ifs else node
    assert isinstance(result, cst.CSTNode)
    return result
