"""Leaves out branches for classes the network has no instance of: ``elif isinstance(m, Bottleneck): ...``."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Callable, Set

import libcst as cst

Dead = Callable[[ast.expr], bool]


def without_dead_branches(text: str, absent: Dead) -> str:
    """The statement ``text`` without ``if`` branches that can't be reached.

    A branch can't be reached if it asks ``isinstance(x, C)``, alone or with ``and``, and ``absent`` says of the
    expression ``C`` that nothing in the network is one. Empty text if nothing is left to do.
    """
    if "isinstance" not in text:
        return text
    plain = textwrap.dedent(text)
    tests = [n.test for n in ast.walk(ast.parse(plain)) if isinstance(n, ast.If)]
    never = {ast.unparse(t) for t in tests if _never(t, absent)}
    if not never:
        return text
    kept = cst.parse_module(plain).visit(_Pruner(never))
    return kept.code if kept.body else ""


def _never(test: ast.expr, absent: Dead) -> bool:
    parts = test.values if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And) else [test]
    return any(_asks_absent(p, absent) for p in parts)


def _asks_absent(expr: ast.expr, absent: Dead) -> bool:
    call = expr if isinstance(expr, ast.Call) and isinstance(expr.func, ast.Name) else None
    asks = call is not None and call.func.id == "isinstance" and len(call.args) == 2  # type: ignore[attr-defined]
    return bool(asks and call is not None and absent(call.args[1]))


class _Pruner(cst.CSTTransformer):
    """``never``: conditions that are never met, as ``ast`` writes them."""

    def __init__(self, never: Set[str]) -> None:
        self._never_met = never
        self._elifs: set[cst.If] = set()

    def visit_If(self, node: cst.If) -> None:  # noqa: N802  (libcst's name)
        if isinstance(node.orelse, cst.If):
            self._elifs.add(node.orelse)

    def leave_If(  # type: ignore[override]  # noqa: N802  (an Else may stand where an elif was)
        self, original_node: cst.If, updated_node: cst.If
    ) -> cst.If | cst.Else | cst.FlattenSentinel[cst.BaseStatement] | cst.RemovalSentinel:
        if not self._never(original_node.test):
            return updated_node if not _empty(updated_node.body) or updated_node.orelse else cst.RemoveFromParent()
        other = updated_node.orelse
        if isinstance(other, cst.If):
            return other.with_changes(leading_lines=updated_node.leading_lines)
        if other is None:
            return cst.RemoveFromParent()
        if original_node in self._elifs:
            return other
        return cst.FlattenSentinel([s for s in other.body.body if isinstance(s, cst.BaseStatement)])

    def leave_For(  # noqa: N802
        self, original_node: cst.For, updated_node: cst.For
    ) -> cst.For | cst.RemovalSentinel:
        return cst.RemoveFromParent() if _empty(updated_node.body) else updated_node

    def _never(self, test: cst.BaseExpression) -> bool:
        return ast.unparse(ast.parse(cst.Module([]).code_for_node(test), mode="eval").body) in self._never_met


def _empty(block: cst.BaseSuite) -> bool:
    return isinstance(block, cst.IndentedBlock) and not block.body
