"""Changes inside an author's statement: numbers that pruning changed, branches that can't run."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import libcst as cst

from ...places import Span
from ..text import SourceFile, own_parentheses
from .branches import Settled

PASS = cst.SimpleStatementLine([cst.Pass()])


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


class _Replace(cst.CSTTransformer):
    def __init__(
        self,
        new: Mapping[cst.CSTNode, cst.BaseExpression],
        more: Mapping[cst.CSTNode, cst.Arg],
        ifs: Mapping[cst.CSTNode, bool],
    ) -> None:
        super().__init__()
        self.new = new
        self.more = more
        self.ifs = ifs
        self.elifs: set[cst.CSTNode] = set()

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.If) and isinstance(node.orelse, cst.If):
            self.elifs.add(node.orelse)
        return True

    def on_leave(self, original_node: cst.CSTNode, updated_node: cst.CSTNode) -> Any:
        if isinstance(updated_node, cst.If) and original_node in self.ifs:
            return self._branch(updated_node, self.ifs[original_node], original_node in self.elifs)
        if isinstance(updated_node, cst.IndentedBlock) and self.ifs:
            return _left_short(updated_node)
        if original_node in self.more and isinstance(updated_node, cst.Call):
            updated_node = updated_node.with_changes(args=_extended(updated_node.args, self.more[original_node]))
        return self.new.get(original_node, updated_node)

    def _branch(self, node: cst.If, truth: bool, is_elif: bool) -> Any:
        """What stays of an ``if`` of which only one branch can run."""
        if is_elif:
            stays = cst.Else(node.body, node.leading_lines) if truth else node.orelse
            return cst.RemoveFromParent() if stays is None else stays
        if not truth and isinstance(node.orelse, cst.If):
            return node.orelse.with_changes(leading_lines=node.leading_lines)
        block = node.body if truth else node.orelse.body if node.orelse is not None else None
        if block is None:
            return cst.RemoveFromParent()
        lines: list[Any] = list(block.body)
        if isinstance(block, cst.SimpleStatementSuite):
            lines = [cst.SimpleStatementLine(block.body)]
        above = [*node.leading_lines, *(s for s in lines[0].leading_lines if s.comment is not None)]
        return cst.FlattenSentinel([lines[0].with_changes(leading_lines=above), *lines[1:]])


def _left_short(block: cst.IndentedBlock) -> cst.IndentedBlock:
    """The block up to the statement that leaves it for good; never empty."""
    leaving = (cst.Return, cst.Raise, cst.Continue, cst.Break)
    lines = list(block.body)
    end = next(
        (i for i, s in enumerate(lines) if isinstance(s, cst.SimpleStatementLine) and isinstance(s.body[-1], leaving)),
        None,
    )
    if end is not None and end < len(lines) - 1:
        return block.with_changes(body=lines[: end + 1], footer=[])
    return block if lines else block.with_changes(body=[PASS])
