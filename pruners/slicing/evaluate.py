"""What expressions about sizes come to in a frame that stood still: an interpreter that runs none of the author's code.
"""

from __future__ import annotations

import ast
import builtins
import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch

_BINARY: dict[type[ast.operator], Any] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
}  # fmt: skip
_UNARY: dict[type[ast.unaryop], Any] = {ast.USub: operator.neg, ast.UAdd: operator.pos}
_FUNCTIONS = {abs, divmod, float, int, len, max, min, round, sum, tuple, list}
_METHODS = {"size", "numel", "nelement", "dim", "ndimension", "stride", "index", "bit_length"}
_MODULES = {"math", "numpy"}  # whose functions of numbers only compute
_NUMBERS = (int, float)
_VALUES = (int, float, str, tuple, list, slice, type(None))


class Unknown(Exception):  # noqa: N818  (no fault: somebody asks for what can't be told)
    """The expression does more than to compute a size."""


@dataclass(frozen=True)
class Env:
    """The names of a frame. ``given``: what some expressions in it are taken to be."""

    names: Mapping[str, Any]
    outer: Mapping[str, Any]
    given: Mapping[ast.expr, Any] = field(default_factory=dict)


def evaluate(node: ast.expr, env: Env) -> Any:
    """The value of an expression of names, attributes, sizes and arithmetic. Raises Unknown for anything else."""
    try:
        return _value(node, env)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise Unknown(str(error)) from error


def is_size(value: object) -> bool:
    """A number, or a tuple of numbers."""
    if isinstance(value, (tuple, list)):
        return all(type(v) in _NUMBERS for v in value)
    return type(value) in _NUMBERS


def _value(node: ast.expr, env: Env) -> Any:
    if node in env.given:
        return env.given[node]
    match node:
        case ast.Constant():
            return node.value
        case ast.Name():
            return _named(node.id, env)
        case ast.Attribute():
            return _attribute(_value(node.value, env), node.attr)
        case ast.Tuple() | ast.List():
            return tuple(_elements(node.elts, env))
        case ast.Slice():
            return slice(*(None if n is None else _value(n, env) for n in (node.lower, node.upper, node.step)))
        case ast.UnaryOp() if type(node.op) in _UNARY:
            return _UNARY[type(node.op)](_number(node.operand, env))
        case ast.BinOp() if type(node.op) in _BINARY:
            return _binary(node, env)
        case ast.Subscript():
            return _subscript(node, env)
        case ast.Call():
            return _call(node, env)
    raise Unknown(type(node).__name__)


def _named(name: str, env: Env) -> Any:
    for names in (env.names, env.outer, vars(builtins)):
        if name in names:
            return names[name]
    raise Unknown(name)


def _attribute(holder: Any, name: str) -> Any:
    if isinstance(getattr(type(holder), name, None), property):
        raise Unknown("a property")
    return getattr(holder, name)


def _elements(nodes: list[ast.expr], env: Env) -> list[Any]:
    found: list[Any] = []
    for node in nodes:
        if isinstance(node, ast.Starred):
            found += _sized(_value(node.value, env))
        else:
            found.append(_value(node, env))
    return found


def _sized(value: Any) -> Any:
    if not isinstance(value, (tuple, list)):
        raise Unknown("no tuple")
    return value


def _number(node: ast.expr, env: Env) -> Any:
    value = _value(node, env)
    if type(value) not in _NUMBERS:
        raise Unknown("no number")
    return value


def _binary(node: ast.BinOp, env: Env) -> Any:
    left, right = _value(node.left, env), _value(node.right, env)
    tuples = isinstance(node.op, ast.Add) and isinstance(left, tuple) and isinstance(right, tuple)
    if not tuples and not (type(left) in _NUMBERS and type(right) in _NUMBERS):
        raise Unknown("no numbers")
    return _BINARY[type(node.op)](tuple(left), tuple(right)) if tuples else _BINARY[type(node.op)](left, right)


def _subscript(node: ast.Subscript, env: Env) -> Any:
    """Of a tuple an element or a part; of a tensor what plain integers and slices take."""
    holder, index = _value(node.value, env), _value(node.slice, env)
    plain = all(isinstance(i, (int, slice)) for i in (index if isinstance(index, tuple) else (index,)))
    if not plain or not isinstance(holder, (tuple, list, torch.Tensor)):
        raise Unknown("a look-up")
    return holder[index]


def _call(node: ast.Call, env: Env) -> Any:
    args = _elements(node.args, env)
    keywords = {k.arg: _value(k.value, env) for k in node.keywords if k.arg is not None}
    if len(keywords) < len(node.keywords):
        raise Unknown("**arguments")
    func = node.func
    if isinstance(func, ast.Attribute):
        holder = _value(func.value, env)
        sized = isinstance(holder, (torch.Tensor, tuple, list)) and func.attr in _METHODS
        counted = isinstance(holder, ModuleType) and holder.__name__ in _MODULES
        if not sized and not (counted and all(isinstance(a, _VALUES) for a in args)):
            raise Unknown(func.attr)
        found = getattr(holder, func.attr)(*args, **keywords)
    else:
        function = _value(func, env)
        harmless = getattr(function, "__module__", "") == math.__name__ or function in (*_FUNCTIONS, torch.Size)
        sizes = all(isinstance(a, (*_VALUES, torch.Tensor)) for a in args)
        if not harmless or not sizes or any(isinstance(a, torch.Tensor) for a in args) > (function is len):
            raise Unknown("a call")
        found = function(*args, **keywords)
    return found.item() if type(found).__module__ == "numpy" and hasattr(found, "item") else found
