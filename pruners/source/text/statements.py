"""Statements as text: moving, comparing, and reading what names they use."""

from __future__ import annotations

import ast
import io
import textwrap
import token
import tokenize
from collections.abc import Sequence
from functools import lru_cache

from .layout import STEP
from .names_in import first_word, only_call

Lines = list[str]
_REMOVERS = frozenset({"pop", "popitem", "clear", "__delattr__", "__delitem__"})
_STRINGS = {token.STRING, getattr(token, "FSTRING_MIDDLE", token.STRING)}


def rows(text: str) -> Lines:
    """The lines of some code. Lines that begin inside a string are one with the line before, so nothing moves in it."""
    if not any(mark in text for mark in ('"""', "'''", "\\\n")):
        return text.split("\n")
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    inside = {n for t in tokens if t.type in _STRINGS for n in range(t.start[0] + 1, t.end[0] + 1)}
    found: Lines = []
    for number, line in enumerate(text.split("\n"), 1):
        if number in inside:
            found[-1] += f"\n{line}"
        else:
            found.append(line)
    return found


def indented(lines: Lines) -> Lines:
    """The lines one step further in; empty ones stay empty."""
    return [STEP + s if s else s for s in lines]


def tidy(lines: Lines) -> Lines:
    """No blank lines at the ends, never two in a row."""
    kept = [s for i, s in enumerate(lines) if s.strip() or (i and lines[i - 1].strip())]
    while kept and not kept[-1].strip():
        kept.pop()
    return kept


def same_code(first: str, second: str) -> bool:
    """Whether two texts are the same but for layout and comments."""
    try:
        return _dumped(first) == _dumped(textwrap.dedent(second))
    except SyntaxError:
        return False


@lru_cache(maxsize=256)
def _dumped(text: str) -> str:
    return ast.dump(ast.parse(text))


def parsed(lines: Lines) -> ast.AST:
    """The tree of some lines; a lone ``if ...:`` gets a body."""
    text = "\n".join(lines)
    for candidate in (text, f"{text} pass", f"{text.removeprefix('el')} pass"):
        try:
            return ast.parse(candidate)
        except SyntaxError:
            continue
    return ast.Module([], [])


def uses(tree: ast.AST) -> dict[tuple[str, str], int]:
    """(name, how it is used: alone or with what index) -> how often."""
    counts: dict[tuple[str, str], int] = {}
    indexed = {id(n.value): ast.unparse(n) for n in ast.walk(tree) if isinstance(n, ast.Subscript | ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            key = (node.id, indexed.get(id(node), ""))
            counts[key] = counts.get(key, 0) + 1
    return counts


def only_raises(stmt: ast.If) -> bool:
    """Whether all that an ``if`` does, with its ``elif`` and ``else``, is to raise."""
    bodies = [*stmt.body, *(s for s in stmt.orelse if not isinstance(s, ast.If))]
    rest = [s for s in stmt.orelse if isinstance(s, ast.If)]
    return all(isinstance(s, ast.Raise) for s in bodies) and all(only_raises(s) for s in rest)


def within(inner: ast.stmt | ast.expr, outer: ast.stmt) -> bool:
    """Whether code stands in the lines of another."""
    return outer.lineno <= inner.lineno and (inner.end_lineno or 0) <= (outer.end_lineno or 0)


def numbered(names: Sequence[str]) -> tuple[str, int]:
    """("layer", 1) for layer1, layer2 ...; an empty prefix where names are not numbered."""
    prefix = names[0].rstrip("0123456789") if names else ""
    digits = names[0][len(prefix) :] if names else ""
    return (prefix, int(digits)) if digits else ("", 0)


def is_docstring(stmt: ast.stmt, init: ast.AST | None) -> bool:
    """Whether the statement is the docstring of this function."""
    first = getattr(init, "body", [None])[0]
    return stmt is first and isinstance(stmt, ast.Expr) and isinstance(stmt.value, ast.Constant)


def warns(stmt: ast.stmt) -> bool:
    """Whether a statement only warns about the arguments it was given."""
    call = only_call(stmt)
    return call is not None and ast.unparse(call.func) in ("warnings.warn", "warn")


def only_removes(stmt: ast.stmt, owner: str) -> bool:
    """Whether a statement only takes away what a constructor made before: ``del self.fc``, ``self.layers.pop()``."""
    if isinstance(stmt, ast.Delete):
        return True
    if isinstance(stmt, ast.If | ast.For | ast.Try):
        inner = [*stmt.body, *stmt.orelse]
        if isinstance(stmt, ast.Try):
            inner += [*stmt.finalbody, *(s for h in stmt.handlers for s in h.body)]
        work = [s for s in inner if not isinstance(s, ast.Pass | ast.Break | ast.Continue)]
        return bool(work) and all(only_removes(s, owner) for s in work)
    call = only_call(stmt)
    if call is None:
        return False
    if isinstance(call.func, ast.Attribute):
        return call.func.attr in _REMOVERS and first_word(call.func) == owner
    return ast.unparse(call.func) == "delattr" and bool(call.args) and first_word(call.args[0]) == owner
