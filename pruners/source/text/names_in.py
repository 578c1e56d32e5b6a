"""Which names a piece of code stores and loads, takes, calls and sets."""

from __future__ import annotations

import ast
import copy
import keyword
from collections.abc import Mapping
from typing import Any, TypeVar

from .files import FunctionNode

Code = TypeVar("Code", ast.expr, ast.stmt)
_TO_ONE = (ast.AnnAssign, ast.AugAssign)


def stored_names(node: ast.AST) -> set[str]:
    """Names that a function assigns, its loops and comprehensions included."""
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store | ast.Del)}


def loaded_names(node: ast.AST) -> set[str]:
    """The names that the code reads."""
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


def filled_names(stmt: ast.stmt) -> set[str]:
    """The objects that ``cfg.width = 32``, ``cfg["width"] = 32`` and ``cfg.update(width=32)`` change."""
    call = only_call(stmt)
    nodes = [call.func] if call is not None else stmt.targets if isinstance(stmt, ast.Assign) else []
    return {first_word(n) for n in nodes if not isinstance(n, ast.Name)} - {""}


def first_word(node: ast.AST) -> str:
    """``cfg`` of ``cfg.widths[0].first``; empty where no name stands there."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def last_word(node: ast.AST | None) -> str:
    """``relu`` of ``F.relu`` and of ``relu``; empty for what is no name."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def value_named(node: ast.AST, names: Mapping[str, Any]) -> Any:
    """What a name, dots included, means; None where it is no name or means nothing."""
    if isinstance(node, ast.Attribute):
        return getattr(value_named(node.value, names), node.attr, None)
    return names.get(node.id) if isinstance(node, ast.Name) else None


def with_values(code: Code, values: Mapping[str, Any]) -> Code:
    """The code with literals in place of names and attributes, and sums of whole numbers worked out; the code itself
    where it reads none of them."""
    read = (ast.unparse(n) for n in ast.walk(code) if isinstance(n, ast.Name | ast.Attribute))
    if values.keys().isdisjoint(read):
        return code
    found: Code = _Filled(values).visit(copy.deepcopy(code))
    return found


class _Filled(ast.NodeTransformer):
    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def visit_Name(self, node: ast.Name) -> ast.expr:
        known = node.id in self.values and isinstance(node.ctx, ast.Load)
        return ast.parse(repr(self.values[node.id]), mode="eval").body if known else node

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        text = ast.unparse(node)
        return ast.parse(repr(self.values[text]), mode="eval").body if text in self.values else self.generic_visit(node)  # type: ignore[return-value]

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        if not all(isinstance(n, ast.Constant) and type(n.value) is int for n in (node.left, node.right)):
            return node
        value = eval(compile(ast.fix_missing_locations(ast.Expression(node)), "<numbers>", "eval"), {})
        return ast.Constant(value) if type(value) is int else node


def is_usable_name(name: str) -> bool:
    """Whether a name may stand behind a dot."""
    return name.isidentifier() and not keyword.iskeyword(name)


def arguments_of(function: FunctionNode | ast.Lambda) -> list[ast.arg]:
    """What a function takes, ``*args`` and ``**kwargs`` last."""
    args = function.args
    others = [a for a in (args.vararg, args.kwarg) if a is not None]
    return [*args.posonlyargs, *args.args, *args.kwonlyargs, *others]


def defaults_of(function: FunctionNode | ast.Lambda) -> dict[str, ast.expr | None]:
    """What arguments are where nobody gives them, None for those that are needed; not ``*args`` and ``**kwargs``."""
    args = function.args
    needed = [None] * (len(args.posonlyargs) + len(args.args) - len(args.defaults))
    named = [*args.posonlyargs, *args.args, *args.kwonlyargs]
    return {a.arg: d for a, d in zip(named, [*needed, *args.defaults, *args.kw_defaults], strict=True)}


def only_call(stmt: ast.AST | None) -> ast.Call | None:
    """The call that a statement is, ``layers.append(x)``."""
    return stmt.value if isinstance(stmt, ast.Expr) and isinstance(stmt.value, ast.Call) else None


def targets_of(stmt: ast.AST) -> list[ast.expr]:
    """What an assignment gives a value."""
    return stmt.targets if isinstance(stmt, ast.Assign) else [stmt.target] if isinstance(stmt, _TO_ONE) else []


def pairs_of(target: ast.expr, value: ast.expr) -> list[tuple[ast.expr, ast.expr]]:
    """What an assignment gives, and the expressions: two of ``a, b = x, y``."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        return list(zip(target.elts, value.elts, strict=True))
    return [(target, value)]
