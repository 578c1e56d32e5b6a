"""Author's files: text, syntax tree, and the places in them."""

from __future__ import annotations

import ast
import inspect
import io
import linecache
import sys
import textwrap
import tokenize
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property, lru_cache
from itertools import dropwhile, pairwise
from typing import Any

from ...errors import NoSourceError
from ...places import Site, Span
from .concrete import Concrete, Position

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class SourceFile:
    """One Python file as text and as a tree. Lines count from 1, columns are UTF-8 bytes, as in ``ast``."""

    def __init__(self, name: str, lines: list[str]) -> None:
        self.name = name
        self.lines = lines
        self.text = "".join(lines)
        self.tree = ast.parse(self.text, filename=name)

    @classmethod
    def of(cls, text: str) -> SourceFile:
        """Code that stands in no file."""
        return cls("<text>", io.StringIO(text).readlines())

    @cached_property
    def newline(self) -> str:
        """What ends its lines on disk; the text here has ``\\n``, as Python reads it."""
        try:
            with open(self.name, "rb") as file:
                return "\r\n" if file.readline().endswith(b"\r\n") else "\n"
        except OSError:  # typed into a notebook
            return "\n"

    @property
    def whole(self) -> Span:
        """The place of all of it."""
        return 1, 0, len(self.lines), len(self.lines[-1].encode())

    @cached_property
    def concrete(self) -> Concrete:
        """The same file for editing."""
        return Concrete(self.name, self.lines, self.tree)

    @cached_property
    def calls(self) -> dict[Position, ast.Call]:
        """Calls by their end: no two calls end at the same place."""
        return {
            (node.end_lineno or 0, node.end_col_offset or 0): node
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Call)
        }

    @cached_property
    def bound(self) -> dict[str, list[tuple[int, ast.stmt]]]:
        """Name -> the statements at the top, also under ``if`` and ``try``, that bind it, numbered as they stand."""
        found: dict[str, list[tuple[int, ast.stmt]]] = {}
        for number, stmt in enumerate(_at_the_top(self.tree)):
            for name in dict.fromkeys(_bound_by(stmt)):
                found.setdefault(name, []).append((number, stmt))
        return found

    @cached_property
    def for_checkers(self) -> dict[ast.AST, ast.If]:
        """What stands in an ``if TYPE_CHECKING:``, which only type checkers run, with the outermost one around it."""
        found: dict[ast.AST, ast.If] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.If) and ast.unparse(node.test).rpartition(".")[2] == "TYPE_CHECKING":
                for inner in (i for s in node.body for i in ast.walk(s)):
                    found.setdefault(inner, node)
        return found

    @cached_property
    def classes(self) -> dict[str, ast.ClassDef]:
        """The last class of each name, wherever it stands."""
        return {node.name: node for node in ast.walk(self.tree) if isinstance(node, ast.ClassDef)}

    @cached_property
    def comprehensions(self) -> list[Comprehension]:
        return [node for node in ast.walk(self.tree) if isinstance(node, Comprehension)]

    @cached_property
    def spelled(self) -> frozenset[str]:
        """The names that the code reads, dots included."""
        nodes = (n for n in ast.walk(self.tree) if isinstance(n, ast.Name | ast.Attribute))
        return frozenset(ast.unparse(n) for n in nodes if isinstance(n.ctx, ast.Load))

    @cached_property
    def comments(self) -> dict[int, tuple[int, str]]:
        """Line -> (column in characters, text) of its comment."""
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        return {t.start[0]: (t.start[1], t.string) for t in tokens if t.type == tokenize.COMMENT}

    def comment_behind(self, line: int) -> str:
        return self.comments.get(line, (0, ""))[1]

    @cached_property
    def _pairs(self) -> dict[int, tuple[ast.stmt, ast.stmt]]:
        body = [s for n, s in enumerate(self.tree.body) if not n or not _is_note(s)]
        pairs = [*pairwise(body)][::-1]  # of two on one line the first
        return {n: pair for pair in pairs for n in range(first_line(pair[1]), (pair[1].end_lineno or 0) + 1)}

    def pair_at(self, line: int) -> tuple[ast.stmt, ast.stmt] | None:
        """The statement at the top that this line is of, behind the one before it; None for the first."""
        return self._pairs.get(line)

    def comments_above(self, line: int) -> str:
        """The comments at the margin between the statement at the top that this line is of and the one before it, with
        the empty lines below them; those above the first statement belong to the file. A text by itself, as some write
        the authors' names below the imports, is a comment too."""
        if (pair := self.pair_at(line)) is None:
            return ""
        between = self.lines[pair[0].end_lineno or 0 : first_line(pair[1]) - 1]
        return "".join(dropwhile(lambda s: not s[:1].strip(), between))

    def comments_below(self, line: int, name: str) -> str:
        """The comments at the margin that end the file, with the empty lines above them, if this line, or the statement
        of this name, is the last."""
        last = self.tree.body[-1]
        if not last.lineno <= line <= (last.end_lineno or 0) and getattr(last, "name", "") != name:
            return ""
        rest = self.lines[last.end_lineno or 0 :]
        at = [n for n, text in enumerate(rest) if text.startswith("#")] or [0, -1]
        first = next(n for n in range(at[0], -1, -1) if not n or rest[n - 1].strip())
        return "".join(rest[first : at[-1] + 1])

    @cached_property
    def functions(self) -> dict[tuple[str, int], FunctionNode]:
        """Functions by name and first line (the line of the first decorator, as in code objects)."""
        return {(n.name, first_line(n)): n for n in ast.walk(self.tree) if isinstance(n, FunctionNode)}

    def segment(self, node: ast.expr | ast.stmt) -> str:
        """The text of one node, without the indentation of its first line."""
        return self.span(*span_of(node))

    def span(self, line: int, col: int, end_line: int, end_col: int) -> str:
        lines = [s.encode() for s in self.lines[line - 1 : end_line]]
        lines[-1] = lines[-1][:end_col]
        lines[0] = lines[0][col:]
        return b"".join(lines).decode()

    def at(self, node: ast.stmt | ast.expr) -> Site:
        return Site(self.name, node.lineno, span=span_of(node))


def span_of(node: ast.expr | ast.stmt | ast.keyword | ast.arg) -> Span:
    """Lines and columns of code: first line, first column, last line, column behind it."""
    return node.lineno, node.col_offset, node.end_lineno or 0, node.end_col_offset or 0


def _is_note(stmt: ast.stmt) -> bool:
    return isinstance(stmt, ast.Expr) and isinstance(stmt.value, ast.Constant) and isinstance(stmt.value.value, str)


def first_line(stmt: ast.stmt) -> int:
    """The line of a statement, or of its first decorator."""
    return min([stmt.lineno, *(d.lineno for d in getattr(stmt, "decorator_list", ()))])


def encloses(outer: Span, inner: Span) -> bool:
    """Whether what has the one span stands in what has the other, or is it."""
    return outer[:2] <= inner[:2] and inner[2:] <= outer[2:]


def call_around(nodes: Iterable[ast.AST], span: Span) -> ast.Call | None:
    """The innermost call among the nodes in which a span lies."""
    calls = [n for n in nodes if isinstance(n, ast.Call) and encloses(span_of(n), span)]
    return min(calls, key=lambda c: (-c.lineno, -c.col_offset, span_of(c)[2:]), default=None)


@lru_cache(maxsize=64)
def _read(name: str, text: str) -> SourceFile | None:
    """A file is parsed once for all that is written from it; None if it is no Python."""
    try:
        return SourceFile(name, io.StringIO(text).readlines())
    except (SyntaxError, ValueError):
        return None


class Sources:
    """The files read during one run of the writer."""

    def __init__(self) -> None:
        self._files: dict[str, SourceFile | None] = {}
        self._places: dict[type, tuple[SourceFile, ast.ClassDef]] = {}

    def file(self, name: str) -> SourceFile | None:
        if name not in self._files:
            linecache.checkcache(name)
            lines = linecache.getlines(name)
            self._files[name] = _read(name, "".join(lines)) if lines else None
        return self._files[name]

    def append(self, name: str, text: str) -> SourceFile:
        """The file as if it ended with this text."""
        found = self._files[name] = SourceFile(name, [*linecache.getlines(name), *text.splitlines(keepends=True)])
        return found

    def of_class(self, cls: type) -> tuple[SourceFile, ast.ClassDef]:
        """The definition of a class. Raises SourceError where there is no source, as for classes made by a call."""
        if cls not in self._places:
            self._places[cls] = self._find_class(cls)
        return self._places[cls]

    def _find_class(self, cls: type) -> tuple[SourceFile, ast.ClassDef]:
        codes = [
            c for c in map(code_of, vars(cls).values()) if c is not None and c.co_qualname.startswith(cls.__qualname__)
        ]
        module_file = getattr(sys.modules.get(cls.__module__), "__file__", None)
        name = codes[0].co_filename if codes else module_file
        file = self.file(name) if name else None
        if file is None:
            raise NoSourceError(
                f"{name or cls.__module__}: the source of class {cls.__qualname__} is not available",
                help="load the model from a Python file",
            )
        parts = [p for p in cls.__qualname__.split(".") if p != "<locals>"]
        nodes = _named(file.tree, parts)
        lines = [c.co_firstlineno for c in codes]
        inside = [n for n in nodes if all(n.lineno <= line <= (n.end_lineno or 0) for line in lines)]
        if not inside or not isinstance(inside[-1], ast.ClassDef):
            raise NoSourceError(
                f"no class statement for {cls.__qualname__}",
                site=Site(file.name, min(lines, default=1)), help="write the class in a file of its own",
            )  # fmt: skip
        return file, inside[-1]

    def of_function(self, function: types.FunctionType) -> tuple[SourceFile, FunctionNode] | None:
        code = code_of(function)
        return self.function(code.co_filename, code.co_name, code.co_firstlineno) if code else None

    def function(self, name: str, function: str, line: int) -> tuple[SourceFile, FunctionNode] | None:
        """The function of a file that has this name and begins in this line."""
        file = self.file(name)
        node = file.functions.get((function, line)) if file else None
        return (file, node) if file and node else None


def function_of(value: object) -> types.FunctionType | None:
    """The function that is meant by what may lie in a class body."""
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    if isinstance(value, property):
        value = value.fget
    if callable(value):
        value = inspect.unwrap(value)
    return value if isinstance(value, types.FunctionType) else None


def parameters_of(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """What a function takes, or a class to be made with; nothing where it can't be asked."""
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}


def code_of(value: object) -> types.CodeType | None:
    """The code of a function as it may lie in a class body."""
    function = function_of(value)
    return function.__code__ if function is not None else None


@lru_cache(maxsize=256)
def definition_of(function: types.FunctionType) -> ast.FunctionDef | None:
    """A function by itself, wherever it is from; None where its text can't be read."""
    try:
        found = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    except (OSError, TypeError, SyntaxError):
        return None
    return found if isinstance(found, ast.FunctionDef) else None


def _at_the_top(node: ast.AST) -> Iterator[ast.stmt]:
    for stmt in ast.iter_child_nodes(node):
        if isinstance(stmt, ast.If | ast.Try | ast.With | ast.ExceptHandler):
            yield from _at_the_top(stmt)
        elif isinstance(stmt, ast.stmt):
            yield stmt


def _bound_by(stmt: ast.stmt) -> list[str]:
    """The names that a statement binds; "*" is for all of a module."""
    if isinstance(stmt, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [stmt.name]
    if isinstance(stmt, ast.Import | ast.ImportFrom):
        return [a.asname or a.name.partition(".")[0] for a in stmt.names]
    targets = stmt.targets if isinstance(stmt, ast.Assign) else [stmt.target] if isinstance(stmt, ast.AnnAssign) else []
    names = [n for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)]
    return [n.id for n in names if isinstance(n.ctx, ast.Store)]


def _named(tree: ast.AST, parts: list[str]) -> list[Definition]:
    level = _definitions(tree)
    for i, part in enumerate(parts):
        level = [n for n in level if n.name == part]
        if i < len(parts) - 1:
            level = [n for scope in level for n in _definitions(scope)]
    return level


def _definitions(scope: ast.AST) -> list[Definition]:
    """Classes and functions defined in a scope, also under ``if`` or ``try``."""
    found: list[Definition] = []
    for child in ast.iter_child_nodes(scope):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.append(child)
        elif isinstance(child, ast.If | ast.Try | ast.ExceptHandler | ast.With):
            found += _definitions(child)
    return found
