"""An author's class: its constructor's parameters and statements, and evaluation of its expressions."""

from __future__ import annotations

import ast
import builtins
import inspect
import math
import types
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from torch import nn

from ..live import author_init
from ..text import FunctionNode, SourceFile, Sources, arguments_of, defaults_of, first_line, stored_names, within

T = TypeVar("T")
PURE = frozenset(
    {"abs", "all", "any", "bool", "divmod", "float", "int", "isinstance", "issubclass", "len", "list", "max", "min"}
    | {"pow", "range", "round", "sum", "tuple", "zip"}
)


@dataclass(frozen=True)
class AuthorParameter:
    """A parameter of the author's constructor, as it is written."""

    name: str
    annotation: str | None
    default: ast.expr | None
    default_text: str | None
    keyword_only: bool


class AuthorClass:
    """The source of one class and of the constructor that makes its instances."""

    def __init__(self, cls: type[nn.Module], sources: Sources) -> None:
        self.cls = cls
        self.file, self.node = sources.of_class(cls)
        home = author_init(cls)
        function = vars(home)["__init__"] if home else None
        self.home = home
        self.globals: dict[str, Any] = dict(inspect.unwrap(function).__globals__) if function else {}
        place = sources.of_function(function) if function else None
        self.init_file: SourceFile = place[0] if place else self.file
        self.init: FunctionNode | None = place[1] if place else None
        if self.init is not None:
            _nest_what_returns_skip(self.init.body)
        self.parameters = _parameters(self.init_file, self.init) if self.init else {}
        self.stored = stored_names(self.init) if self.init else set()
        self.annotated = self.init is not None and any(
            a.annotation is not None for a in (*self.init.args.args, *self.init.args.kwonlyargs)
        )

    @property
    def header_end(self) -> int:
        """The last line of ``def __init__(...):``, without comments that stand behind it."""
        assert self.init is not None
        line = first_line(self.init.body[0]) - 1
        while line > self.init.lineno and self.init_file.lines[line - 1].lstrip()[:1] in ("", "#"):
            line -= 1
        return line

    @property
    def last_comments(self) -> list[str]:
        """Comments behind the last statement that are still inside the constructor."""
        found: list[str] = []
        if self.init is None:
            return found
        for line in self.init_file.lines[self.init.end_lineno or 0 :]:
            text = line.strip()
            if text and (not text.startswith("#") or len(line) - len(line.lstrip()) <= self.init.col_offset):
                break
            found.append(text)
        return found if any(found) else []

    @property
    def self_name(self) -> str:
        return self.init.args.args[0].arg if self.init and self.init.args.args else "self"

    def sets_once(self, attribute: str) -> bool:
        """Whether the class assigns an attribute in one place only, so that its last value is its only one."""
        return self._assigned[attribute] == 1

    @cached_property
    def _assigned(self) -> Counter[str]:
        """How many places of the class assign or register each attribute."""
        calls = [n for n in ast.walk(self.node) if isinstance(n, ast.Call)]
        return Counter({n: len(lines) for n, lines in self._stores.items()}) + Counter(map(_registered, calls))

    def set_before(self, line: int) -> set[str]:
        """Attributes that only the constructor assigns, outside loops and before this line."""
        if self.init is None or self.home is not self.cls:
            return set()
        first = self.init.lineno
        return {a for a, lines in self._stores.items() if all(n is not None and first <= n < line for n in lines)}

    @cached_property
    def _stores(self) -> Mapping[str, list[int | None]]:
        """Attributes that the class assigns: in which lines; None inside a loop of the constructor."""
        found: dict[str, list[int | None]] = {}
        for node in ast.walk(self.node):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                looped = any(within(node, loop) for loop in self._loops)
                found.setdefault(node.attr, []).append(None if looped else node.lineno)
        return found

    @cached_property
    def _loops(self) -> list[ast.For | ast.While]:
        return [n for n in ast.walk(self.init) if isinstance(n, ast.For | ast.While)] if self.init else []

    def settled(self) -> set[str]:
        """Local names that get their value in one place only, outside loops."""
        names = [n for n in ast.walk(self.init) if isinstance(n, ast.Name)] if self.init else []
        counts = Counter(n.id for n in names if not isinstance(n.ctx, ast.Load))
        again = set().union(*map(stored_names, self._loops))
        return {n for n, count in counts.items() if count == 1 and n not in self.parameters} - again

    def local_definitions(self) -> Mapping[str, ast.Assign]:
        """Names that the constructor assigns exactly once, outside loops and branches."""
        settled, found = self.settled(), {}
        for stmt in self.init.body if self.init else ():
            if isinstance(stmt, ast.Assign) and len(stmt.targets) == 1 and isinstance(stmt.targets[0], ast.Name):
                found[stmt.targets[0].id] = stmt
        return {n: s for n, s in found.items() if n in settled}

    def assigned(self, expr: ast.expr) -> ast.expr:
        """What a local name or an attribute of the module stands for, if it is assigned but once; else itself."""
        if isinstance(expr, ast.Name) and expr.id in self.local_definitions():
            return self.local_definitions()[expr.id].value
        if isinstance(expr, ast.Attribute) and self.sets_once(expr.attr) and self.init is not None:
            stmts = (s for s in self.init.body if isinstance(s, ast.Assign))
            return next((s.value for s in stmts if [ast.unparse(t) for t in s.targets] == [ast.unparse(expr)]), expr)
        return expr


def _nest_what_returns_skip(body: list[ast.stmt]) -> None:
    """``if done: return`` with what follows in its ``else``, so that the condition tells who has what follows."""
    for i, stmt in enumerate(body):
        if not isinstance(stmt, ast.If):
            continue
        _nest_what_returns_skip(stmt.body)
        rest = body[i + 1 :]
        if isinstance(stmt.body[-1], ast.Return) and stmt.body[-1].value is None and rest:
            stmt.orelse += rest
            stmt.end_lineno, stmt.end_col_offset = rest[-1].end_lineno, rest[-1].end_col_offset
            del body[i + 1 :]
        _nest_what_returns_skip(stmt.orelse)
        if body[-1] is stmt:
            return


def _registered(call: ast.Call) -> str:
    """The attribute that ``self.register_buffer("attribute", ...)`` or the like makes."""
    named = isinstance(call.func, ast.Attribute) and call.func.attr in ("register_buffer", "register_parameter")
    first = call.args[0] if named and call.args else None
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else ""


def _parameters(file: SourceFile, function: FunctionNode) -> dict[str, AuthorParameter]:
    defaults, only = defaults_of(function), {a.arg for a in function.args.kwonlyargs}
    rows = [(a, defaults[a.arg]) for a in arguments_of(function) if a.arg in defaults][1:]
    notes = {a.arg: file.segment(a.annotation) for a, _ in rows if a.annotation is not None}
    texts = {a.arg: file.segment(d) for a, d in rows if d is not None}
    names = [(a.arg, d) for a, d in rows]
    return {n: AuthorParameter(n, notes.get(n), d, texts.get(n), n in only) for n, d in names}


class Unproved(Exception):  # noqa: N818  (an outcome, not a fault)
    """The expression can't be evaluated safely, or not with these names."""


def proved(call: Callable[[], T]) -> T | None:
    """What a call gives; None where it can't be told."""
    try:
        return call()
    except Unproved:
        return None


def evaluate(expr: ast.expr, names: Mapping[str, Any], outside: Mapping[str, Any], hidden: set[str]) -> Any:
    """The value of an author's expression.

    ``names`` come first, then globals (``outside``) and builtins, unless ``hidden`` hides them. Raises Unproved.
    """
    _admit(expr, names, outside, hidden)
    used = {n.id for n in ast.walk(expr) if isinstance(n, ast.Name)} - stored_names(expr)
    scope = {name: _lookup(name, names, outside, hidden) for name in used}
    try:
        code = compile(ast.fix_missing_locations(ast.Expression(expr)), "<author>", "eval")
        return eval(code, {"__builtins__": builtins, **scope})
    except Exception as error:
        raise Unproved(str(error)) from error


def turns_out_alike(test: ast.expr, first: Any, second: Any) -> bool | None:
    """Whether a condition on attributes is as true of one module as of another; None where that can't be told."""
    truths = proved(lambda: [bool(evaluate(test, {"self": module}, {}, set())) for module in (first, second)])
    return None if truths is None else truths[0] is truths[1]


def _lookup(name: str, names: Mapping[str, Any], outside: Mapping[str, Any], hidden: set[str]) -> Any:
    if name in names:
        return names[name]
    if name not in hidden and name in outside:
        return outside[name]
    if name not in hidden and hasattr(builtins, name):
        return getattr(builtins, name)
    raise Unproved(f"{name} is not known")


def _admit(expr: ast.expr, names: Mapping[str, Any], outside: Mapping[str, Any], hidden: set[str]) -> None:
    banned = (ast.Lambda, ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr, ast.Starred)
    for node in ast.walk(expr):
        if isinstance(node, banned):
            raise Unproved(type(node).__name__)
        if isinstance(node, ast.Call) and not _pure(node.func, names, outside, hidden):
            raise Unproved(ast.unparse(node.func))


def _pure(func: ast.expr, names: Mapping[str, Any], outside: Mapping[str, Any], hidden: set[str]) -> bool:
    if isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name):
        return func.value.id not in names and outside.get(func.value.id) is math
    if not isinstance(func, ast.Name):
        return False
    name = func.id
    value = proved(lambda: _lookup(name, names, outside, hidden))
    if isinstance(value, types.FunctionType):
        return not value.__module__.startswith("torch.")
    return (func.id in PURE and value is getattr(builtins, func.id, None)) or getattr(value, "__module__", "") == "math"
