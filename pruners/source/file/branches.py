"""Branches of kept code that can't run and that alone would drag definitions into the written file.

``forward`` stays as its author wrote it. But a branch behind a switch that is off in every instance, such as gradient
checkpointing or a fused kernel that is not installed, goes where it calls on definitions of the author's package or on
packages that the written file can do without. Then every other branch behind the same switch goes too, and with them
the switch.
"""

from __future__ import annotations

import ast
import copy
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

from torch import nn

from ..author import Unproved, binding, evaluate, namespace_of, proved, usual
from ..live import is_plain
from ..text import FunctionNode, Position, SourceFile, Sources, arguments_of, loaded_names, stored_names

Settled = Mapping[Position, bool]
_SWITCHES = (bool, int, str, type(None))


class Branches:
    """``settled``: by file name, where an ``if`` stands of which only one branch can run, and which."""

    def __init__(self, sources: Sources, live: Iterable[nn.Module]) -> None:
        self.sources = sources
        self.live = list(live)
        self.classes = {type(m) for m in self.live}
        self.settled: dict[str, dict[Position, bool]] = {}
        self.switches: dict[type, set[str]] = {}  # by class: attributes that settled something
        self._looked_at: set[tuple[str, Position]] = set()

    def settle(self, methods: Sequence[tuple[type, FunctionNode]], stored: Set[str]) -> None:
        """Looks at methods that run. ``stored``: attributes that some of them assign, so that nothing follows."""
        found = [(cls, s, _Switches(self, cls, f, stored)) for cls, f in methods for s in _ifs(f)]
        off = self.switches
        for cls, stmt, switches in found:
            truth = switches.spares(stmt)
            if truth is not None and self._drags(stmt.orelse if truth else stmt.body, cls):
                off.setdefault(cls, set()).update(_attributes(stmt.test))
        for cls, stmt, switches in found:
            known = off.get(cls, set())
            truth = switches.spares(stmt, known) if known & _attributes(stmt.test) else None
            if truth is not None:
                self._settled(self.sources.of_class(cls)[0])[stmt.lineno, stmt.col_offset] = truth

    def settle_function(self, file: SourceFile, function: FunctionNode) -> None:
        """The same for a function outside classes, whose switches are constants of its module."""
        key = file.name, (function.lineno, function.col_offset)
        if key in self._looked_at:
            return
        self._looked_at.add(key)
        switches = _Switches(self, None, function, frozenset())
        switches.globals = namespace_of(file)
        for stmt in _ifs(function):
            truth = switches.spares(stmt)
            if truth is not None and self._drags(stmt.orelse if truth else stmt.body, file):
                self._settled(file)[stmt.lineno, stmt.col_offset] = truth

    def folded(self, file: SourceFile, node: Any) -> Any:
        """The definition without the branches that can't run."""
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            self.settle_function(file, node)
        settled = self.settled.get(file.name)
        return _Fold(settled).visit(copy.deepcopy(node)) if settled else node

    def _settled(self, file: SourceFile) -> dict[Position, bool]:
        return self.settled.setdefault(file.name, {})

    def _drags(self, stmts: Sequence[ast.stmt], home: type | SourceFile) -> bool:
        """Whether statements name what only they would bring along."""
        file = self.sources.of_class(home)[0] if isinstance(home, type) else home
        names = set().union(*(loaded_names(s) for s in stmts)) if stmts else set()
        return any(self._extra(n, file) for n in names)

    def _extra(self, name: str, file: SourceFile) -> bool:
        stmt, value = binding(file, name), namespace_of(file).get(name)
        if stmt is None or (isinstance(value, type) and value in self.classes):
            return False
        if isinstance(stmt, ast.Import):
            return not usual(stmt.names[0].name)
        return not isinstance(stmt, ast.ImportFrom) or bool(stmt.level) or not usual(stmt.module or "")


class _Switches:
    """What conditions of one function come to, as far as attributes that never change decide it."""

    def __init__(self, branches: Branches, cls: type | None, function: FunctionNode, stored: Set[str]) -> None:
        self.function = function
        self.live = [m for m in branches.live if cls is not None and isinstance(m, cls)]
        self.stored = stored
        self.globals: Mapping[str, Any] = vars(sys.modules[cls.__module__]) if cls is not None else {}
        names = [a.arg for a in arguments_of(function)]
        self.parameters = {*names}
        self.owner = names[0] if names and cls is not None else None
        self.local = (self.parameters | stored_names(function)) - {self.owner}

    def spares(self, stmt: ast.If, known: Set[str] | None = None) -> bool | None:
        """What a condition always comes to; None also where code that can run reads what only the other branch
        assigns."""
        mine = self._dead(stmt, known)
        if not mine:
            return self.truth(stmt.test, known)
        dead = {n for other in _ifs(self.function) for s in self._dead(other, known) for n in ast.walk(s)}
        names = [n for n in ast.walk(self.function) if isinstance(n, ast.Name) and n not in dead]
        stored, loaded = ({n.id for n in names if isinstance(n.ctx, ast.Load) is read} for read in (False, True))
        given: set[str] = set().union(*map(stored_names, mine)) - stored - self.parameters
        return None if given & loaded else self.truth(stmt.test, known)

    def _dead(self, stmt: ast.If, known: Set[str] | None) -> Sequence[ast.stmt]:
        """The branch of a statement that can't run."""
        truth = self.truth(stmt.test, known)
        return [] if truth is None else stmt.orelse if truth else stmt.body

    def truth(self, test: ast.expr, known: Set[str] | None = None) -> bool | None:
        """``known``: the only attributes that may decide; None: all."""
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            inner = self.truth(test.operand, known)
            return None if inner is None else not inner
        if isinstance(test, ast.BoolOp):
            decisive = isinstance(test.op, ast.Or)
            parts = [self.truth(v, known) for v in test.values]
            return decisive if decisive in parts else None if None in parts else not decisive
        return self._leaf(test, known)

    def _leaf(self, test: ast.expr, known: Set[str] | None) -> bool | None:
        if loaded_names(test) & self.local or any(isinstance(n, ast.Call) for n in ast.walk(test)):
            return None
        if self.owner is None or self.owner not in loaded_names(test):
            return self._constant(test)
        if not _attributes(test) or (known is not None and not _attributes(test) <= known):
            return None
        owner, read, seen = self.owner, self.globals, [_Seen(m, self.stored) for m in self.live]
        found = proved(lambda: {bool(evaluate(test, {owner: module}, read, set())) for module in seen})
        return found.pop() if found is not None and len(found) == 1 else None

    def _constant(self, test: ast.expr) -> bool | None:
        """A switch at the top of the file."""
        name = test.id if isinstance(test, ast.Name) else None
        value = self.globals.get(name or "", _Seen)
        return bool(value) if isinstance(value, _SWITCHES) else None


class _Seen:
    """A module of which only attributes that never change can be read; modules and tensors are there or not."""

    def __init__(self, module: nn.Module, stored: Set[str]) -> None:
        self._module = module
        self._stored = stored

    def __getattr__(self, name: str) -> object:
        held = {**vars(self._module), **self._module._modules, **self._module._parameters, **self._module._buffers}
        if name in self._stored or name == "training" or name not in held:
            raise AttributeError(name)
        value = held[name]
        if value is None or is_plain(value):
            return value
        return _Something()


class _Something:
    def __bool__(self) -> bool:
        raise Unproved("only whether it is there is known")


class _Fold(ast.NodeTransformer):
    def __init__(self, settled: Settled) -> None:
        self.settled = settled

    def visit_If(self, node: ast.If) -> Any:
        self.generic_visit(node)
        truth = self.settled.get((node.lineno, node.col_offset))
        return node if truth is None else node.body if truth else node.orelse

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for part in ("body", "orelse"):
            body = getattr(node, part, None)
            if isinstance(body, list):
                setattr(node, part, list(until_left(body)) or ([ast.Pass()] if part == "body" else []))
        return node


def until_left(body: Iterable[Any]) -> Iterator[Any]:
    """Statements up to the one that leaves the block for good."""
    for stmt in body:
        yield stmt
        if isinstance(stmt, ast.Return | ast.Raise | ast.Continue | ast.Break):
            return


def _ifs(function: FunctionNode) -> list[ast.If]:
    return [n for n in ast.walk(function) if isinstance(n, ast.If)]


def _attributes(test: ast.expr) -> set[str]:
    return {n.attr for n in ast.walk(test) if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)}
