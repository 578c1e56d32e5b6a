"""Numbers that count channels in code which ``forward`` doesn't run: checks of shapes, methods that say a width,
scripts, docstrings. They follow where that is proved, and are told where they don't.

Proof is a run of that code on the author's network and on the written one: what was equal to a size has to be equal to
what the size is now. A number by itself is none: 64 may be a batch.
"""

from __future__ import annotations

import ast
import inspect
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from torch import nn

from ...run import described
from ..live import attempted, sizes_now
from ..text import FunctionNode, defaults_of
from .beside import SCRIPT
from .quiet_run import QuietRun, namespace, node_number, on_meta, run_on_meta

log = logging.getLogger(__name__)
_NETWORK = {"net", "model", "network"}  # what functions call a network that they are given
Names = Mapping[str, Any]
Inputs = Mapping[str, Names]  # by module path: the arguments of its forward
Span = tuple[int, int]  # of bytes in the text
_SHAPES = re.compile(rb"[(\[]\s*[A-Za-z]\w*\s*,[\w\s,*/+-]*[)\]]")  # begins with a batch that has a name
_NUMBER = re.compile(rb"(?<=,)\s*([0-9]+)\s*(?=[,)\]])")
_SAYS_WIDTH = re.compile(r"channel|width|dim|feat|plane|hidden|embed|flat|filter")
_SAYS_SIZE = re.compile(rf"{_SAYS_WIDTH.pattern}|^(?!.*(image|input|img|batch|patch|kernel|window)).*(shape|size)")
_ASKS_SIZE = re.compile(r"\.shape\b|\.size\(")


def follow_beside(
    text: str, before: nn.Module, after: nn.Module, name: str, idle: Callable[[str], bool], example: Any
) -> tuple[str, list[str]]:
    """The text of a written file with the numbers beside ``forward`` that follow, and ``where (written line n)`` of
    those that don't.

    ``before``: the author's network, ``after``: that of the file, which ``name`` makes; both lose their weights.
    ``idle``: whether a function or method (``Class.method``) is one that the network doesn't run. ``example``: what the
    network runs on.
    """
    sizes = sizes_now(before, after)
    if not any(int(n) in sizes for n in re.findall(r"\b\d+\b", text)):
        return text, []
    both = _Both(text, before, after, name, idle)
    if both.code:
        with on_meta():  # a network that isn't like others can't be without weights
            attempted("nothing beside forward is run", lambda: both.run(example))
    both.read()
    return both.outcome()


class _Both:
    def __init__(self, text: str, before: nn.Module, after: nn.Module, name: str, idle: Callable[[str], bool]) -> None:
        self.text = text.encode()
        self.starts = [0, *accumulate(map(len, self.text.splitlines(keepends=True)))]
        self.networks = (before, after)
        self.made_by = {name}
        self.tree = ast.parse(text)
        self.functions = {s.name: s for s in self.tree.body if isinstance(s, FunctionNode)}
        self.sizes = sizes_now(before, after)
        code = {n: s for n, s in self._code() if idle(n)}
        counting = {n for n, s in code.items() if self._counts(s)}
        counting |= {SCRIPT} if counting & self.functions.keys() else set()  # it may call them
        self.code = {n: s for n, s in code.items() if n in counting}
        self.compares = {node_number(n): n for s in self.tree.body for n in _equalities(s)}
        asserts = [n for n in ast.walk(self.tree) if isinstance(n, ast.Assert) and n.msg is not None]
        self.messages = {node_number(n): a.msg for a in asserts for n in _equalities(a.test)}
        self.where = {n.lineno: label for label, s in self.code.items() for n in ast.walk(s) if hasattr(n, "lineno")}
        self.now: dict[Span, set[int]] = {}  # numbers of the text, and what they have to be
        self.stale: set[int] = set()  # lines
        self.proved: set[int] = set()  # lines that ran

    def _code(self) -> Iterator[tuple[str, ast.stmt]]:
        for stmt in self.tree.body:
            if isinstance(stmt, ast.ClassDef):
                yield from ((f"{stmt.name}.{s.name}", s) for s in stmt.body if isinstance(s, FunctionNode))
            elif isinstance(stmt, FunctionNode):
                yield stmt.name, stmt
            elif isinstance(stmt, ast.If) and ast.unparse(stmt.test).startswith("__name__ =="):
                yield SCRIPT, stmt

    def _counts(self, stmt: ast.stmt) -> bool:
        """Whether a number stands there that was a size and isn't any more."""
        return any(_whole(n) in self.sizes for n in ast.walk(stmt))

    def run(self, example: Any) -> None:
        """Runs what can be run without knowing what its author would call it with."""
        for network in self.networks:
            network.to("meta")
        inputs: list[Inputs] = []
        for name, stmt in self.code.items():
            cls = name.rpartition(".")[0]
            if cls and isinstance(stmt, FunctionNode):
                inputs = inputs or [_inputs(n, example) for n in self.networks]
                owner = stmt.args.args[0].arg if stmt.args.args else ""
                for path, pair in self._instances(cls):
                    names = [{**i.get(path, {}), owner: m} for i, m in zip(inputs, pair, strict=True)]
                    if not _lacking(stmt, names[0]):
                        self._together(stmt.body, *names)
            elif isinstance(stmt, ast.If | FunctionNode) and (lacking := _lacking(stmt, {})) <= _NETWORK:
                self._together(stmt.body, *(dict.fromkeys(lacking, n) for n in self.networks))

    def read(self) -> None:
        """What is told without a run."""
        for name, stmt in self.code.items():
            cls = name.rpartition(".")[0]
            if cls and isinstance(stmt, FunctionNode) and _SAYS_SIZE.search(stmt.name.lower()):
                for _, pair in self._instances(cls):
                    self._returned(stmt, *pair)
        self._unproved()
        self._docstrings()

    def _instances(self, cls: str) -> Iterator[tuple[str, list[nn.Module]]]:
        for path, module in self.networks[1].named_modules():
            if type(module).__name__ == cls:
                yield path, [n.get_submodule(path) for n in self.networks]

    def _together(self, body: Sequence[ast.stmt], before: Names, after: Names) -> None:
        """Runs statements on both networks; the second time comparisons turn out as they did the first."""
        asked: dict[int, list[tuple[Any, Any]]] = {}

        def first(number: int, left: Any, right: Any) -> bool:
            asked.setdefault(number, []).append((left, right))
            return bool(left == right)

        def second(number: int, left: Any, right: Any) -> bool:
            if not asked.get(number):
                return bool(left == right)
            was = asked[number].pop(0)
            if number in self.compares and _sizes(was[0]) is not None and _sizes(was[0]) == _sizes(was[1]):
                self._compared(self.compares[number], _sizes(left), _sizes(right))
            return bool(was[0] == was[1])

        runs = []
        for network, names, asks in zip(self.networks, (before, after), (first, second), strict=True):
            made = dict.fromkeys(self.made_by, network)
            runs.append(QuietRun(self.functions, {**namespace(network), "__name__": SCRIPT}, made, asks))
            runs[-1].run(body, names)
        sound = runs[0].done - runs[0].failed.keys()
        self.proved |= sound
        failed = {n: e for n, e in runs[1].failed.items() if n in sound and not isinstance(e, NameError)}
        for line, error in failed.items():
            log.info("line %d of the written file: %s", line, described(error))
        self.stale |= failed.keys()

    def _compared(self, node: ast.Compare, left: Any, right: Any) -> None:
        """What was equal before; each side's numbers have to be what the other side gives now."""
        sides = [(node.left, left, right), (node.comparators[0], right, left)]
        for side, mine, other in sides:
            numbers = list(_numbers(side, mine, other))
            if numbers and all(isinstance(n, ast.Constant) or is_now == wanted for n, is_now, wanted in numbers):
                for number, is_now, wanted in numbers:
                    if isinstance(number, ast.Constant):
                        self.now.setdefault(self._span(number), set()).add(wanted)
                        self._said(self.messages.get(node_number(node)), is_now, wanted)
                return
        if left != right:
            self.stale.add(node.lineno)

    def _returned(self, method: FunctionNode, before: nn.Module, after: nn.Module) -> None:
        """``return 512``: a width where the name of the method says so, else perhaps one."""
        sizes, certain = sizes_now(before, after), _SAYS_WIDTH.search(method.name.lower())
        returned = [s.value for s in ast.walk(method) if isinstance(s, ast.Return) and s.value is not None]
        for value in returned:
            numbers = [(n, i) for n in _elements(value) if (i := _whole(n)) in sizes]
            if certain and all(len(sizes[i]) == 1 for _, i in numbers):
                for node, i in numbers:
                    self.now.setdefault(self._span(node), set()).update(sizes[i])
            elif any(certain or i not in sizes[i] for _, i in numbers):
                self.stale.add(value.lineno)

    def _said(self, message: ast.expr | None, old: int, new: int) -> None:
        """A number in what a check says follows the one in the check."""
        if message is not None and old != new:
            start, end = self._span(message)
            for found in re.finditer(rb"\b%d\b" % old, self.text[start:end]):
                self.now.setdefault((start + found.start(), start + found.end()), set()).add(new)

    def _unproved(self) -> None:
        """Comparisons of a shape that nobody could run, with a number that is no size any more."""
        gone = {n for n, new in self.sizes.items() if n not in new}
        for stmt in self.code.values():
            for node in _equalities(stmt):
                sides = (node.left, node.comparators[0])
                for shape, other in (sides, sides[::-1]) if node.lineno not in self.proved else ():
                    asked = ast.unparse(shape)
                    if _ASKS_SIZE.search(asked) and not asked.endswith(("shape[0]", "size(0)")):
                        several = isinstance(_inner(other), ast.Tuple | ast.List)
                        numbers = _elements(other)[1:] if several else [other]
                        if any(_whole(n) in gone for n in numbers):
                            self.stale.add(node.lineno)

    def _docstrings(self) -> None:
        """Shapes in docstrings, ``(N, 512)``, of which one number is a width."""
        for node in ast.walk(self.tree):
            if not isinstance(node, ast.ClassDef | FunctionNode) or ast.get_docstring(node) is None:
                continue
            sizes, (start, end) = self._sizes_of(node), self._span(node.body[0])
            for shape in _SHAPES.finditer(docstring := self.text[start:end]):
                numbers = [n for n in _NUMBER.finditer(docstring, *shape.span()) if int(n[1]) in sizes]
                new = sizes[int(numbers[0][1])] if len(numbers) == 1 else set[int]()
                if len(new) == 1:
                    self.now[start + numbers[0].start(1), start + numbers[0].end(1)] = new

    def _sizes_of(self, node: ast.stmt) -> Mapping[int, set[int]]:
        """What became of the sizes of all that a class, or a method of it, may speak of."""
        cls = next((c.name for c in self.tree.body if isinstance(c, ast.ClassDef) and node in (c, *c.body)), None)
        paths = [p for p, m in self.networks[1].named_modules() if type(m).__name__ == cls] or [""]
        found: dict[int, set[int]] = {}
        for path in paths:
            for old, new in sizes_now(*(n.get_submodule(path) for n in self.networks)).items():
                found.setdefault(old, set()).update(new)
        return found

    def _span(self, node: ast.stmt | ast.expr) -> Span:
        start = self.starts[node.lineno - 1] + node.col_offset
        return start, self.starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)

    def outcome(self) -> tuple[str, list[str]]:
        new = self.text
        for (start, end), numbers in sorted(self.now.items(), reverse=True):
            if len(numbers) > 1:
                self.stale.add(self.text[:start].count(b"\n") + 1)
            else:
                new = new[:start] + str(*numbers).encode() + new[end:]
        names = {line: self.where.get(line, "").replace(SCRIPT, "if __name__") for line in self.stale}
        return new.decode(), [f"{names[line]} (written line {line})" for line in sorted(self.stale)]


def _inputs(network: nn.Module, example: Any) -> Inputs:
    """What the forward of each module is called with, by the names of its parameters."""
    paths, found = {id(m): p for p, m in network.named_modules()}, dict[str, Names]()

    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: Names) -> None:
        try:
            found.setdefault(paths[id(module)], inspect.signature(module.forward).bind(*args, **kwargs).arguments)
        except (TypeError, ValueError, KeyError):  # one that says nothing about its arguments
            return

    handles = [m.register_forward_pre_hook(enter, with_kwargs=True) for m in network.modules()]
    try:
        run_on_meta(network, example)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _lacking(function: ast.stmt, names: Names) -> set[str]:
    """Arguments that a function can't be run without and that nobody knows."""
    needed = defaults_of(function) if isinstance(function, FunctionNode) else {}
    return {name for name, default in needed.items() if default is None} - names.keys()


def _equalities(tree: ast.AST) -> list[ast.Compare]:
    compares = [n for n in ast.walk(tree) if isinstance(n, ast.Compare) and len(n.ops) == 1]
    return [n for n in compares if isinstance(n.ops[0], ast.Eq | ast.NotEq)]


def _sizes(value: Any) -> Any:
    """A number or a tuple of numbers; None for all else."""
    if type(value) is int:
        return value
    several = isinstance(value, tuple | list) and all(type(n) is int for n in value)
    return tuple(value) if several else None


def _whole(node: ast.AST) -> int:
    """The whole number that stands there; -1 where none does."""
    return node.value if isinstance(node, ast.Constant) and type(node.value) is int else -1


def _inner(node: ast.expr) -> ast.expr:
    """What ``tuple(...)``, ``list(...)`` or ``torch.Size(...)`` is made of."""
    named = isinstance(node, ast.Call) and len(node.args) == 1 and not node.keywords
    name = ast.unparse(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else ""
    return node.args[0] if named and name in {"tuple", "list", "Size"} and isinstance(node, ast.Call) else node


def _elements(node: ast.expr) -> list[ast.expr]:
    node = _inner(node)
    return node.elts if isinstance(node, ast.Tuple | ast.List) else [node]


def _numbers(side: ast.expr, mine: Any, other: Any) -> Iterator[tuple[ast.expr, int, int]]:
    """The expressions for the numbers of one side, what they give, and what the other side has there; nothing where
    no number stands there."""
    nodes = _elements(side)
    values, wanted = ((v,) if type(v) is int else v or () for v in (mine, other))
    if len(nodes) == len(values) == len(wanted) and any(isinstance(n, ast.Constant) for n in nodes):
        yield from zip(nodes, values, wanted, strict=True)
