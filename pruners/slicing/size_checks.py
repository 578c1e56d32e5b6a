"""Checks in the author's code that compare a size with an attribute: ``assert x.shape[1] == self.dim``."""

from __future__ import annotations

import ast
import traceback
from collections.abc import Iterator
from types import FrameType, FunctionType
from typing import Any

import torch
from torch import nn

from ..places import Site
from ..run import Modules, is_author_file, tree_of
from .expressions import AttributePatch, Stale, attribute_behind, meant

_LEAVES = (ast.Name, ast.Constant, ast.expr_context)
_HARMLESS = (*_LEAVES, ast.Attribute, ast.Subscript, ast.Slice, ast.UnaryOp, ast.USub, ast.Call)
_AS_A_WHOLE = {"tuple", "list", "Size"}


def outdated(error: BaseException, model: nn.Module, modules: Modules) -> list[Stale]:
    """Attributes with which a check would not have failed; none where the error isn't that of such a check."""
    found = [f for f in traceback.walk_tb(error.__traceback__) if is_author_file(f[0].f_code.co_filename)]
    if not found:
        return []
    frame, line = found[-1]
    site = Site(frame.f_code.co_filename, line, frame.f_code.co_name)
    stale = []
    for one, size in _pairs(frame, line):
        patch = attribute_behind(one, frame, modules)
        if patch is not None and type(size) in (int, tuple) and _differs(patch, size, model):
            stale.append(Stale(patch, modules.current, site, size))
    return stale


def _pairs(frame: FrameType, line: int) -> Iterator[tuple[ast.expr, Any]]:
    """Expressions and the sizes that they are compared with; of sizes compared as a whole, one by one."""
    for one, other in _sides(frame, line):
        size, listed = _size(other, frame), _listed(_returned(one, frame))
        several = isinstance(listed, ast.Tuple | ast.List) and isinstance(size, tuple | list)
        if several and len(size) == len(listed.elts):  # type: ignore[attr-defined]
            for element, number in zip(listed.elts, size, strict=True):  # type: ignore[attr-defined]
                yield _factor(element, number, frame)
        else:
            yield _factor(one, tuple(size) if isinstance(size, tuple | list) else size, frame)


def _factor(node: ast.expr, size: Any, frame: FrameType) -> tuple[ast.expr, Any]:
    """Of ``batch * self.heads`` what counts channels, with its own number."""
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Mult) or type(size) is not int:
        return node, size
    for one, other in ((node.left, node.right), (node.right, node.left)):
        plain = isinstance(other, ast.Name | ast.Constant)
        rest = frame.f_locals.get(other.id) if isinstance(other, ast.Name) else getattr(other, "value", None)
        if plain and type(rest) is int and rest > 0 and size % rest == 0:
            return one, size // rest
    return node, size


def _returned(node: ast.expr, frame: FrameType) -> ast.expr:
    """What a method of the module without arguments returns: ``self.output_shape()``."""
    if not isinstance(node, ast.Call) or node.args or node.keywords or not isinstance(node.func, ast.Attribute):
        return node
    owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
    method = getattr(type(frame.f_locals.get(owner)), node.func.attr, None)
    code = method.__code__ if isinstance(method, FunctionType) else None
    tree = tree_of(code.co_filename) if code is not None and code.co_varnames[:1] == (owner,) else None
    found = [f for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) and code is not None
             and f.lineno == code.co_firstlineno] if tree is not None else []  # fmt: skip
    returns = [n.value for f in found for n in ast.walk(f) if isinstance(n, ast.Return)]
    return returns[0] if len(returns) == 1 and returns[0] is not None else node


def _listed(node: ast.expr) -> ast.expr:
    """What ``tuple(...)``, ``list(...)`` or ``torch.Size(...)`` is made of."""
    named = isinstance(node, ast.Call) and len(node.args) == 1 and not node.keywords
    name = ast.unparse(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else ""
    return node.args[0] if named and name in _AS_A_WHOLE and isinstance(node, ast.Call) else node


def _differs(patch: AttributePatch, size: Any, model: nn.Module) -> bool:
    holder = model.get_submodule(patch.module)
    held = getattr(holder, patch.attribute)
    alike = type(held) is type(size) or (isinstance(held, list | torch.Size) and type(size) is tuple)
    several = alike and len(_listing(held)) == len(_listing(size))
    return several and _listing(held) != _listing(size) and not type(holder).__module__.startswith("torch.")


def _listing(size: Any) -> list[int]:
    return [size] if type(size) is int else list(size)


def _sides(frame: FrameType, line: int) -> Iterator[tuple[ast.expr, ast.expr]]:
    """What the check at the line compares for equality, both ways round."""
    tree = tree_of(frame.f_code.co_filename)
    for test in _tests(tree, line) if tree is not None else ():
        for node in ast.walk(test):
            if isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], (ast.Eq, ast.NotEq)):
                yield node.left, node.comparators[0]
                yield node.comparators[0], node.left


def _tests(tree: ast.Module, line: int) -> Iterator[ast.expr]:
    """Of ``assert test``, of ``if test: raise ...`` and of ``torch._assert(test, ...)``."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.stmt) or not node.lineno <= line <= (node.end_lineno or 0):
            continue
        raises = isinstance(node, ast.If) and any(isinstance(s, ast.Raise) and s.lineno <= line for s in node.body)
        if raises or isinstance(node, ast.Assert):
            yield node.test  # type: ignore[attr-defined]
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield from node.value.args[:1]


def _size(node: ast.expr, frame: FrameType) -> Any:
    """The value of ``x.shape[1]`` and its like, also by a name; None for what is no size or could have an effect."""
    node, frame = meant(node, frame)
    if not any(isinstance(part, ast.Attribute) and part.attr in {"shape", "size"} for part in ast.walk(node)):
        return None
    parts = list(ast.walk(node))
    if not all(isinstance(p, _HARMLESS) and (not isinstance(p, ast.Call) or _asks(p)) for p in parts):
        return None
    try:
        code = compile(ast.fix_missing_locations(ast.Expression(node)), "<size>", "eval")
        return eval(code, frame.f_globals, frame.f_locals)
    except (ArithmeticError, AttributeError, LookupError, NameError, RuntimeError, TypeError, ValueError):
        return None  # the check's own error is shown


def _asks(call: ast.Call) -> bool:
    """Whether a call only asks for sizes: ``x.size(1)``, ``x.dim()``, ``list(x.shape)``."""
    if isinstance(call.func, ast.Attribute):
        return call.func.attr in {"size", "dim", "numel"}
    return isinstance(call.func, ast.Name) and call.func.id in _AS_A_WHOLE
