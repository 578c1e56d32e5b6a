"""Code beside ``forward`` is run for the sizes in it alone: on torch's meta device, where tensors have no values, and
with no call but of networks, of torch and of the code's own functions, so that nothing is read, written or shown.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import copy
import inspect
import io
import math
import socket
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ...run import call_arguments, examples_of, tree_map
from ..author import Unproved
from ..live import attempted, loading_nothing, undisturbed
from ..text import FunctionNode, targets_of

Seen = Callable[[int, Any, Any], bool]
_DEPTH = 8
_PASSES = 64  # of one loop
_PLAIN = {abs, all, any, bool, dict, divmod, enumerate, float, getattr, hasattr, int, isinstance, len, list, max, min}
_PLAIN |= {range, reversed, round, set, slice, sorted, str, sum, tuple, type, zip, torch.Size}
_SAME = {"to", "cuda", "cpu", "float", "double", "half", "requires_grad_", "detach", "clone", "contiguous"}
_BANNED = {"load", "save", "compile", "numpy", "item", "tolist", "backward", "load_state_dict"}
_CALL, _COMPARE = "_secateur_call", "_secateur_compare"


@contextlib.contextmanager
def on_meta() -> Iterator[None]:
    """Within this block tensors that are made have sizes and no values, weights aren't loaded, nothing is fetched from
    elsewhere and nothing is shown."""
    quiet = contextlib.redirect_stdout(io.StringIO())
    with undisturbed(), loading_nothing(), alone(), quiet, torch.device("meta"), torch.no_grad():
        yield


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Within this block no file of tensors is read and no other machine is asked."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("nothing is fetched here")

    load, connect = torch.load, socket.socket.connect
    torch.load, socket.socket.connect = refuse, refuse  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.load, socket.socket.connect = load, connect  # type: ignore[method-assign]


def namespace(network: nn.Module) -> Mapping[str, Any]:
    """The names of the files that the network's classes stand in, its own last."""
    found: dict[str, Any] = {}
    for module in reversed(list(network.modules())):
        for value in vars(type(module)).values() if not type(module).__module__.startswith("torch.") else ():
            if isinstance(value, types.FunctionType):
                found |= value.__globals__
    return found


def run_on_meta(network: nn.Module, example: Any) -> bool:
    """Whether a network without weights runs on an example."""
    if example is None:
        return True
    first = tree_map(lambda t: t.to("meta") if isinstance(t, torch.Tensor) else t, examples_of(example)[0])
    args, kwargs = call_arguments(first)
    what = "without values the network stops"  # what reads them can't run without
    return attempted(what, lambda: (network.to("meta")(*args, **kwargs), True)) is not None


class QuietRun:
    """``functions``: by name, those of the file. ``names``: what its names mean, also by ``made``, those that make the
    network. ``seen``: gets every comparison for equality, by a number, and says how it turns out. ``done``,
    ``failed``: statements that ran, or couldn't, by line."""

    def __init__(
        self, functions: Mapping[str, FunctionNode], names: Mapping[str, Any], made: Mapping[str, nn.Module], seen: Seen
    ) -> None:
        self.functions = functions
        self.names = {**names, _CALL: self._call, _COMPARE: seen}
        self.made = made
        self.done: set[int] = set()
        self.failed: dict[int, Exception] = {}
        self._depth = 0

    def run(self, body: Sequence[ast.stmt], names: Mapping[str, Any]) -> Any:
        """The statements with these names; what they return."""
        local = dict(names)
        try:
            self._block(body, local)
        except _Returned as returned:
            return returned.value
        return None

    def _block(self, body: Sequence[ast.stmt], names: dict[str, Any]) -> None:
        for stmt in body:
            if isinstance(stmt, ast.If):
                self._block(self._branch(stmt, names), names)
            elif isinstance(stmt, ast.With | ast.Try):
                self._block(stmt.body, names)
            elif isinstance(stmt, ast.For):
                self._loop(stmt, names)
            elif isinstance(stmt, ast.Raise):
                raise _Returned(None)
            elif isinstance(stmt, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Expr | ast.Assert | ast.Return):
                self._one(stmt, names)

    def _branch(self, stmt: ast.If, names: dict[str, Any]) -> Sequence[ast.stmt]:
        try:
            chosen = stmt.body if self._value(stmt.test, names) else stmt.orelse
            self.done.add(stmt.lineno)
            return chosen
        except Exception as error:
            self.failed.setdefault(stmt.lineno, error)
            return [s for s in (*stmt.body, *stmt.orelse) if self._forget(s, names)]

    def _loop(self, stmt: ast.For, names: dict[str, Any]) -> None:
        try:
            for n, value in enumerate(self._value(stmt.iter, names)):
                if n == _PASSES:
                    return
                self._bind(stmt.target, value, names)
                self._block(stmt.body, names)
        except _Returned:
            raise
        except Exception as error:
            self.failed.setdefault(stmt.lineno, error)
            self._forget(stmt, names)

    def _one(self, stmt: ast.stmt, names: dict[str, Any]) -> None:
        try:
            if isinstance(stmt, ast.Assert):
                if not self._value(stmt.test, names):
                    raise AssertionError
            elif isinstance(stmt, ast.AugAssign):
                left = copy.copy(stmt.target)
                left.ctx = ast.Load()
                value = self._value(ast.BinOp(left, stmt.op, stmt.value), names)
                self._bind(stmt.target, value, names)
            else:
                value = self._value(stmt.value, names) if getattr(stmt, "value", None) is not None else None  # type: ignore[attr-defined]
                if isinstance(stmt, ast.Return):
                    self.done.add(stmt.lineno)
                    raise _Returned(value)
                for target in targets_of(stmt):
                    self._bind(target, value, names)
        except _Returned:
            raise
        except Exception as error:  # the author's code may raise anything, and meets what it was not written for
            self.failed.setdefault(stmt.lineno, error)
            self._forget(stmt, names)
        else:
            self.done.add(stmt.lineno)

    @staticmethod
    def _forget(stmt: ast.stmt, names: dict[str, Any]) -> bool:
        for node in ast.walk(stmt):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.pop(node.id, None)
        return False

    def _bind(self, target: ast.expr, value: Any, names: dict[str, Any]) -> None:
        if isinstance(target, ast.Name):
            names[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            for one, part in zip(target.elts, value, strict=True):
                self._bind(one, part, names)
        else:
            raise Unproved("it sets something that others see")

    def _value(self, expr: ast.expr, names: Mapping[str, Any]) -> Any:
        code = ast.fix_missing_locations(ast.Expression(_Guarded().visit(copy.deepcopy(expr))))
        return eval(compile(code, "<beside forward>", "eval"), {**self.names, **names, "__builtins__": vars(builtins)})

    def _call(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """A call, if it does nothing but make or ask."""
        owner, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
        tensors = isinstance(owner, torch.Tensor | nn.Module)
        if name in self.made and isinstance(function, type | types.FunctionType) and not args and not kwargs:
            return self.made[name]
        if tensors and name in _SAME:
            return owner
        if isinstance(function, types.FunctionType) and name in self.functions and self._depth < _DEPTH:
            return self._own(self.functions[name], function, args, kwargs)
        shared = isinstance(owner, list | dict | set) and any(owner is v for v in self.names.values())
        if name in _BANNED or shared or (name.startswith(("set_", "manual_", "use_")) and not tensors):
            raise Unproved(f"{name} may do more than compute")
        module = getattr(function, "__module__", None) or ""
        network = isinstance(function, nn.Module) or (isinstance(function, type) and issubclass(function, nn.Module))
        known = function in _PLAIN if function.__hash__ is not None else False
        of_torch = getattr(torch, name, None) is function or module in ("torch.nn.functional", "torch.functional")
        bound = isinstance(owner, str | list | dict | tuple | set | torch.Size)
        if network or tensors or known or of_torch or bound or getattr(math, name, None) is function:
            return function(*args, **kwargs)
        raise Unproved(f"{name or function!r} may do more than compute")

    def _own(self, node: FunctionNode, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        bound = inspect.signature(function).bind(*args, **kwargs)
        bound.apply_defaults()
        self._depth += 1
        try:
            return self.run(node.body, bound.arguments)
        finally:
            self._depth -= 1


class _Returned(Exception):  # noqa: N818  (a way out of nested blocks, not a fault)
    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


class _Guarded(ast.NodeTransformer):
    """Calls go by ``QuietRun._call``, comparisons for equality by who asks."""

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        return ast.Call(ast.Name(_CALL, ast.Load()), [node.func, *node.args], node.keywords)

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        number = node_number(node)
        self.generic_visit(node)
        if len(node.ops) != 1 or not isinstance(node.ops[0], ast.Eq | ast.NotEq):
            return node
        call = ast.Call(ast.Name(_COMPARE, ast.Load()), [ast.Constant(number), node.left, node.comparators[0]], [])
        return call if isinstance(node.ops[0], ast.Eq) else ast.UnaryOp(ast.Not(), call)


def node_number(node: ast.expr) -> int:
    """A number for an expression that its copies have too."""
    return node.lineno * 10_000 + node.col_offset
