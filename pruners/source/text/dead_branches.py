"""Leaves out branches for classes the network has no instance of: ``elif isinstance(m, Bottleneck): ...``."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Callable
from typing import Any

import libcst as cst

from .concrete import Concrete
from .folding import PASS, Folded

Dead = Callable[[ast.expr], bool]


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
