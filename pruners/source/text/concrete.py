"""An author's file as a libcst tree, which loses nothing: what is kept of it comes out byte for byte.

Statements are found by the place of the same statement in the ``ast`` tree, on which all reading is done. Expressions
are found by libcst's own positions.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import libcst as cst
from libcst.metadata import CodeRange, MetadataWrapper, PositionProvider

from ...errors import NoSourceError, SourceError
from ...places import Site, Span

Position = tuple[int, int]
Block = cst.BaseCompoundStatement
Line = cst.SimpleStatementLine | cst.SimpleStatementSuite | Block


@dataclass(frozen=True)
class Place:
    """A statement, and the line that it shares with others; a statement with a block of its own is its own line."""

    node: cst.BaseSmallStatement | Block
    line: Line


class Concrete:
    """The libcst tree of one file. ``lines`` and ``tree`` are of the same text."""

    def __init__(self, name: str, lines: Sequence[str], tree: ast.Module) -> None:
        self.name = name
        self.tree = tree
        self.lines = lines
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
        self._ranges: dict[Line, Mapping[cst.CSTNode, CodeRange]] = {}

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

    def expression(self, span: Span) -> cst.BaseExpression:
        """The expression at a span as ``ast`` has it: lines from 1, columns in UTF-8 bytes."""
        line, col, end_line, end_col = span
        if end_line > len(self.lines):
            raise self._none(span)
        wanted = (line, self._column(line, col)), (end_line, self._column(end_line, end_col))
        top = next((s for s in self.tree.body if line <= (s.end_lineno or 0)), self.tree.body[-1])
        ranges = self._ranges_in(self.place(top).line)
        offset = top.lineno - ranges[self.place(top).node].start.line
        for node in ranges:
            if isinstance(node, cst.BaseExpression):
                first, last = _ends(node)
                start, end = ranges[first].start, ranges[last].end
                if ((start.line + offset, start.column), (end.line + offset, end.column)) == wanted:
                    return node
        raise self._none(span)

    def _none(self, span: Span) -> SourceError:
        site = Site(self.name, span[0], span=span)
        return SourceError(f"there is no expression from column {span[1]} on to replace", site=site)

    def _column(self, line: int, col: int) -> int:
        text = self.lines[line - 1]
        return len(text.encode()[:col].decode()) - (len(text) - len(text.lstrip("\f")))

    def _ranges_in(self, line: Line) -> Mapping[cst.CSTNode, CodeRange]:
        """Positions in one top-level statement: those of a whole file take as long as the rest of the writing."""
        if line not in self._ranges:
            whole = self.module.with_changes(header=(), body=[line], footer=())
            self._ranges[line] = MetadataWrapper(whole, unsafe_skip_copy=True).resolve(PositionProvider)
        return self._ranges[line]


def own_parentheses(node: cst.BaseExpression) -> bool:
    """Whether ``ast`` counts the innermost parentheses as part of the expression."""
    return isinstance(node, cst.Tuple | cst.GeneratorExp) and bool(node.lpar)


def _ends(node: cst.BaseExpression) -> tuple[cst.CSTNode, cst.CSTNode]:
    return (node.lpar[-1], node.rpar[0]) if own_parentheses(node) else (node, node)


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
