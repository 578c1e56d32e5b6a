"""An author's file as a libcst tree, which loses nothing: what is kept of it comes out byte for byte.

Statements are found by the place of the same statement in the ``ast`` tree, on which all reading is done.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import libcst as cst

from ...errors import NoSourceError
from ...places import Site

Position = tuple[int, int]
Block = cst.BaseCompoundStatement
Line = cst.SimpleStatementLine | cst.SimpleStatementSuite | Block


@dataclass(frozen=True)
class Place:
    """A statement, and the line that it shares with others; a statement with a block of its own is its own line."""

    node: cst.BaseSmallStatement | Block
    line: Line


class Concrete:
    """The libcst tree of one file. ``tree`` has the statements of the ``lines``, maybe with other expressions."""

    def __init__(self, name: str, lines: Sequence[str], tree: ast.Module) -> None:
        text = "".join(lines)
        try:
            self.module = cst.parse_module(text)
        except cst.ParserSyntaxError as error:
            raise NoSourceError(
                f"libcst can't read this file: {error.message}", site=Site(name, error.raw_line)
            ) from None
        # libcst leaves out form feeds before a statement; they mean nothing to Python
        if self.module.code.replace("\f", "") != text.replace("\f", ""):
            raise NoSourceError(f"{name}: libcst doesn't give this file back as it is")
        ours, theirs = list(_ast_statements(tree)), list(_statements(self.module))
        if len(ours) != len(theirs):
            raise NoSourceError(f"{name}: libcst and Python read different statements in this file")
        self._places = {(a.lineno, a.col_offset): b for a, b in zip(ours, theirs, strict=True)}
        self._texts: dict[Position, str] = {}

    def place(self, stmt: ast.stmt) -> Place:
        """The same statement in the other tree."""
        return self._places[stmt.lineno, stmt.col_offset]

    def at(self, position: Position) -> Place:
        """The statement that begins at a place as ``ast`` has it."""
        return self._places[position]

    def above(self, stmt: ast.stmt) -> list[cst.EmptyLine]:
        """The comment lines right above a statement; the line that makes a file a script is none."""
        line = self.place(stmt).line
        lines = [] if isinstance(line, cst.SimpleStatementSuite) else list(line.leading_lines)
        if self.module.body and line is self.module.body[0]:
            lines = [*self.module.header, *lines]
        found: list[cst.EmptyLine] = []
        while lines and lines[-1].comment is not None and not lines[-1].comment.value.startswith("#!"):
            found.insert(0, lines.pop())
        return found

    def code(self, node: cst.CSTNode) -> str:
        """The node's text, moved to column 0. Text inside strings stays as it is."""
        return self.module.code_for_node(node)

    def statement(self, stmt: ast.stmt) -> str:
        """A statement's text, moved to column 0, with the comment behind it and without those above it."""
        key = stmt.lineno, stmt.col_offset
        if key not in self._texts:
            self._texts[key] = self._text(self._places[key])
        return self._texts[key]

    def _text(self, place: Place) -> str:
        alone = isinstance(place.line, cst.SimpleStatementLine) and len(place.line.body) == 1
        if isinstance(place.node, Block) or alone:
            return self.code(place.line.with_changes(leading_lines=[])).rstrip("\n")
        return self.code(place.node.with_changes(semicolon=cst.MaybeSentinel.DEFAULT))


def _ast_statements(node: ast.AST) -> Iterator[ast.stmt]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            yield child
        if isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield from _ast_statements(child)


def _statements(node: cst.CSTNode) -> Iterator[Place]:
    """All statements below a node, in the file's order."""
    for part in ("body", "cases", "handlers", "orelse", "finalbody"):
        found = getattr(node, part, None)
        for child in found if isinstance(found, Sequence) else [found]:
            yield from _statements_of(child, node)


def _statements_of(child: cst.CSTNode | None, parent: cst.CSTNode) -> Iterator[Place]:
    if isinstance(child, cst.SimpleStatementLine):
        yield from (Place(s, child) for s in child.body)
    elif isinstance(child, cst.BaseSmallStatement) and isinstance(parent, cst.SimpleStatementSuite):
        yield Place(child, parent)
    elif isinstance(child, Block):
        yield Place(child, child)
        yield from _statements(child)
    elif child is not None and not isinstance(child, cst.BaseSmallStatement):
        yield from _statements(child)  # a suite, else, except, finally, case
