"""What functions take, and what statements call and set."""

from __future__ import annotations

import ast

from .files import FunctionNode


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


_TO_ONE = (ast.AnnAssign, ast.AugAssign)
