"""Leaves out branches that can't run, also those for classes the network has no instance of."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

import libcst as cst

from .concrete import Concrete

Dead = Callable[[ast.expr], bool]
PASS = cst.SimpleStatementLine([cst.Pass()])
_LEAVING = (cst.Return, cst.Raise, cst.Continue, cst.Break)


class Folded(cst.CSTTransformer):
    """``ifs``: those of which one branch can run, and whether that is the first."""

    def __init__(self, ifs: Mapping[cst.CSTNode, bool]) -> None:
        super().__init__()
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
        return updated_node

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
    lines = list(block.body)
    simple = [isinstance(s, cst.SimpleStatementLine) and isinstance(s.body[-1], _LEAVING) for s in lines]
    end = simple.index(True) if True in simple else len(lines)
    if end < len(lines) - 1:
        return block.with_changes(body=lines[: end + 1], footer=[])
    return block if lines else block.with_changes(body=[PASS])


def without_dead_branches(text: str, absent: Dead) -> str:
    """The statement ``text`` without ``if`` branches that can't be reached.

    A branch can't be reached if it asks ``isinstance(x, C)``, alone or with ``and``, and ``absent`` says of the
    expression ``C`` that nothing in the network is one. Empty text if nothing is left to do.
    """
    if "isinstance" not in text:
        return text
    lines = textwrap.dedent(text).splitlines(keepends=True)
    tree = ast.parse("".join(lines))
    never = [n for n in ast.walk(tree) if isinstance(n, ast.If) and _never(n.test, absent)]
    if not never:
        return text
    concrete = Concrete("<statement>", lines, tree)
    kept = concrete.module.visit(_Pruned({concrete.place(n).node: False for n in never}))
    return kept.code if kept.body else ""


def _never(test: ast.expr, absent: Dead) -> bool:
    parts = test.values if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And) else [test]
    calls = [p for p in parts if isinstance(p, ast.Call) and len(p.args) == 2]
    return any(isinstance(c.func, ast.Name) and c.func.id == "isinstance" and absent(c.args[1]) for c in calls)


class _Pruned(Folded):
    """Without loops and branches, too, in which nothing is left to do."""

    def on_leave(self, original_node: cst.CSTNode, updated_node: cst.CSTNode) -> Any:
        found = super().on_leave(original_node, updated_node)
        loop = isinstance(found, cst.For) or (isinstance(found, cst.If) and found.orelse is None)
        empty = loop and isinstance(found.body, cst.IndentedBlock) and found.body.body == [PASS]
        return cst.RemoveFromParent() if empty else found
