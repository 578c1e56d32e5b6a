"""Parameters and buffers: the author's expression where it still gives a tensor of this shape, else zeros."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable

import torch
from torch import nn

from ...run import copied, same_values
from ..author import AuthorClass, Scope
from ..live import attempted, undisturbed, value_of
from ..text import last_word, loaded_names, stored_names

_CREATORS = ("zeros", "ones", "empty", "randn", "rand", "full", "Tensor", "FloatTensor")


def gives_tensor(scope: Scope, expr: ast.expr, wanted: Iterable[tuple[int, torch.Tensor | None, bool]]) -> bool:
    """Whether the author's expression makes such a tensor in every instance (index, tensor, equal values needed)."""
    found = attempted(expr, lambda: all(like(_made(scope, expr, i), tensor, exact) for i, tensor, exact in wanted))
    return bool(found)


def gives_something(scope: Scope, expr: ast.expr, indices: Iterable[int]) -> bool:
    """Whether the author's expression can be evaluated in these instances."""
    return bool(attempted(expr, lambda: all(isinstance(_made(scope, expr, i), torch.Tensor | None) for i in indices)))


def resizes(scope: Scope, stmt: ast.stmt, indices: Iterable[int]) -> bool:
    """Whether a statement gives a layer's tensor another size than it has: ``self.conv.weight.data = torch.eye(3)``;
    or can't change it any more: ``self.weight.data.div_(std.view(3, 1, 1, 1))``."""
    if isinstance(stmt, ast.Expr):
        return any(_misfits(scope, stmt.value, i) for i in indices)
    if not isinstance(stmt, ast.Assign):
        return False
    held = ast.parse(ast.unparse(stmt.targets[0]), mode="eval").body
    whole = scope.owner
    pairs = attempted(stmt, lambda: [(_made(scope, held, i, whole(i)), _made(scope, stmt.value, i)) for i in indices])
    tensors = [(h, v) for h, v in pairs or () if isinstance(h, torch.Tensor) and isinstance(v, torch.Tensor)]
    return any(h.shape != v.shape for h, v in tensors)


def _misfits(scope: Scope, expr: ast.expr, index: int) -> bool:
    """Whether a method of a layer's tensor that changes it meets another size than it was written for."""
    match expr:
        case ast.Call(ast.Attribute(ast.Attribute(_, "data"), method)) if method.endswith("_"):
            return attempted(expr, lambda: _fits(scope, expr, index)) is False
    return False


def _fits(scope: Scope, expr: ast.expr, index: int) -> bool:
    try:
        _made(scope, expr, index, copied(scope.live[index]))
    except RuntimeError:
        return False
    return True


def _made(scope: Scope, expr: ast.expr, index: int, module: object = None) -> object:
    """What an expression gives in one instance; of the ``module``, if one is given, all attributes are there."""
    author = scope.author
    hidden = set(author.parameters) | author.stored
    names: dict[str, object] = {}
    for name in loaded_names(expr) - stored_names(expr):
        term = scope.words[name][index] if name in scope.words else None
        if term is not None:
            names[name] = value_of(term)
        elif name == author.self_name:
            if module is None:
                scope.admit_attributes(expr, name)
            names[name] = scope.owner(index) if module is None else module
        elif name not in hidden and name in author.globals:
            names[name] = author.globals[name]
        elif name in hidden or not hasattr(builtins, name):
            raise LookupError(name)
    code = compile(ast.fix_missing_locations(ast.Expression(expr)), "<author>", "eval")
    with undisturbed():
        return eval(code, names)


def like(made: object, tensor: torch.Tensor | None, exact: bool) -> bool:
    """Whether a tensor could stand for another: of its shape and type, ``exact``: and its values."""
    if made is None or tensor is None:
        return made is tensor
    if not isinstance(made, torch.Tensor) or made.shape != tensor.shape or made.dtype != tensor.dtype:
        return False
    if isinstance(tensor, nn.Parameter) and made.requires_grad != tensor.requires_grad:
        return False
    return not exact or same_values(made, tensor.detach().to(made.device))


def size_hints(author: AuthorClass, expr: ast.expr | None, dimensions: int) -> list[ast.expr]:
    """The author's expressions for the sizes, from the call that makes the tensor, if there are as many."""
    for node in ast.walk(expr) if expr is not None else ():
        if isinstance(node, ast.Call) and _creator(node.func):
            sizes = node.args
            whole = author.assigned(sizes[0]) if len(sizes) == 1 else None
            if isinstance(whole, ast.Tuple | ast.List):
                sizes = whole.elts
            if len(sizes) == dimensions and not any(isinstance(s, ast.Starred) for s in sizes):
                return list(sizes)
    return []


def creator(expr: ast.expr | None) -> str:
    """Which of torch's functions made the tensor in the author's expression: zeros, ones, empty, randn, rand."""
    for node in ast.walk(expr) if expr is not None else ():
        name = _creator(node.func) if isinstance(node, ast.Call) else None
        if name in ("zeros", "ones", "empty", "randn", "rand"):
            return name
    return "zeros"


def starts_alike(expr: ast.expr | None) -> bool:
    """Whether an expression is a parameter, or a tensor, of one of these functions and nothing else."""
    call = expr if isinstance(expr, ast.Call) else None
    if call is not None and ast.unparse(call.func).rpartition(".")[2] in ("Parameter", "Buffer") and call.args:
        call = call.args[0] if isinstance(call.args[0], ast.Call) else None
    return call is not None and creator(call) == _creator(call.func)


def _creator(func: ast.expr) -> str | None:
    return name if (name := last_word(func)) in _CREATORS else None
