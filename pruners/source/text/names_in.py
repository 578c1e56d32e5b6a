"""Which names a piece of code stores and loads."""

from __future__ import annotations

import ast
import copy
import keyword
from collections.abc import Mapping
from typing import Any


def stored_names(node: ast.AST) -> set[str]:
    """Names that a function assigns, its loops and comprehensions included."""
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store | ast.Del)}


def loaded_names(node: ast.AST) -> set[str]:
    """The names that the code reads."""
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


def with_values(expr: ast.expr, values: Mapping[str, Any]) -> ast.expr:
    """The expression with literals in place of names, and sums of whole numbers worked out."""
    found: ast.expr = _Filled(values).visit(copy.deepcopy(expr))
    return found


class _Filled(ast.NodeTransformer):
    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def visit_Name(self, node: ast.Name) -> ast.expr:
        known = node.id in self.values and isinstance(node.ctx, ast.Load)
        return ast.parse(repr(self.values[node.id]), mode="eval").body if known else node

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        if not all(isinstance(n, ast.Constant) and type(n.value) is int for n in (node.left, node.right)):
            return node
        value = eval(compile(ast.fix_missing_locations(ast.Expression(node)), "<numbers>", "eval"), {})
        return ast.Constant(value) if type(value) is int else node


def is_usable_name(name: str) -> bool:
    """Whether a name may stand behind a dot."""
    return name.isidentifier() and not keyword.iskeyword(name)
