"""Changes inside an author's statement: numbers that pruning changed, branches that can't run."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import libcst as cst

from ...places import Span
from ..text import Folded, SourceFile, own_parentheses
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


def edited(node: cst.CSTNode, file: SourceFile, stmt: ast.stmt, changes: Changes) -> cst.CSTNode:
    """The tree of a statement, changed or not, with the changes that lie in the statement made."""
    new: dict[cst.CSTNode, cst.BaseExpression] = {}
    more: dict[cst.CSTNode, cst.Arg] = {}
    for edit in changes.edits:
        if stmt.lineno <= edit.span[0] <= (stmt.end_lineno or 0):
            old, text = file.concrete.expression(edit.span), cst.parse_expression(edit.text)
            if edit.keyword:
                more[old] = _argument(edit.keyword, text)
            else:
                new[old] = _in_parentheses(text, old)
    inside = {p: t for p, t in changes.settled.items() if stmt.lineno <= p[0] <= (stmt.end_lineno or 0)}
    ifs: dict[cst.CSTNode, bool] = {file.concrete.at(p).node: truth for p, truth in inside.items()}
    result = node.visit(_Replace(new, more, ifs)) if new or more or ifs else node
    assert isinstance(result, cst.CSTNode)
    return result


def _extended(args: Sequence[cst.Arg], added: cst.Arg) -> list[cst.Arg]:
    """One more argument, laid out as those before it."""
    *others, last = args
    comma = others[-1].comma if others else cst.MaybeSentinel.DEFAULT
    added = added.with_changes(comma=last.comma, whitespace_after_arg=last.whitespace_after_arg)
    return [*others, last.with_changes(comma=comma, whitespace_after_arg=cst.SimpleWhitespace("")), added]


def _argument(name: str, value: cst.BaseExpression) -> cst.Arg:
    return cst.Arg(value, cst.Name(name), cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace("")))


def _in_parentheses(new: cst.BaseExpression, old: cst.BaseExpression) -> cst.BaseExpression:
    """Parentheses around the old expression stay around the new one."""
    own = own_parentheses(old)
    left, right = (old.lpar[:-1], old.rpar[1:]) if own else (old.lpar, old.rpar)
    return new.with_changes(lpar=[*left, *new.lpar], rpar=[*new.rpar, *right])


class _Replace(Folded):
    def __init__(
        self,
        new: Mapping[cst.CSTNode, cst.BaseExpression],
        more: Mapping[cst.CSTNode, cst.Arg],
        ifs: Mapping[cst.CSTNode, bool],
    ) -> None:
        super().__init__(ifs)
        self.new = new
        self.more = more

    def on_leave(self, original_node: cst.CSTNode, updated_node: cst.CSTNode) -> Any:
        updated_node = super().on_leave(original_node, updated_node)
        if original_node in self.more and isinstance(updated_node, cst.Call):
            updated_node = updated_node.with_changes(args=_extended(updated_node.args, self.more[original_node]))
        return self.new.get(original_node, updated_node)
