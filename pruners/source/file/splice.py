"""Puts a written constructor into the author's class and leaves out what nothing needs any more."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from itertools import dropwhile

import libcst as cst

from ..author import AuthorClass, only_notes
from ..text import PASS, Concrete, Definition, Line, SourceFile, without_arguments
from .edits import Changes, with_edits, without_settled

Statement = cst.SimpleStatementLine | cst.BaseCompoundStatement


@dataclass(frozen=True)
class ClassParts:
    """What of a class stays. ``methods``: names of methods; ``attributes``: names of class attributes."""

    init: list[str]
    methods: Set[str]
    attributes: Set[str]
    changes: Changes = field(default_factory=Changes)
    gone: Set[str] = frozenset()  # arguments of the constructor that are no more


def class_text(author: AuthorClass, parts: ClassParts) -> str:
    """The class statement, at column 0, without our decorators."""
    concrete, node = with_edits(author.file, parts.changes.edits), author.node
    body = _body(concrete, node, parts)
    found = _decorated(concrete, author.file, node).with_changes(body=body, leading_lines=[])
    text = concrete.code(without_settled(found, concrete, node, parts.changes.settled)).rstrip("\n") + "\n"
    return without_arguments(text, parts.gone)


def statement_text(stmt: ast.stmt, file: SourceFile, changes: Changes) -> str:
    """A statement taken over as it is, at column 0, with the comments right above it and without our decorators."""
    concrete = with_edits(file, changes.edits)
    place = concrete.place(stmt)
    found = place.node
    node: Statement = found if isinstance(found, cst.BaseCompoundStatement) else _alone(found, place.line)
    if isinstance(stmt, Definition):
        node = _decorated(concrete, file, stmt)
    node = node.with_changes(leading_lines=concrete.above(stmt))
    return concrete.code(without_settled(node, concrete, stmt, changes.settled)).rstrip("\n") + "\n"


def _alone(node: cst.BaseSmallStatement, line: Line) -> cst.SimpleStatementLine:
    if isinstance(line, cst.SimpleStatementLine):
        return only(line, [node])
    return cst.SimpleStatementLine([node.with_changes(semicolon=cst.MaybeSentinel.DEFAULT)])


def _decorated(concrete: Concrete, file: SourceFile, node: Definition) -> cst.ClassDef | cst.FunctionDef:
    """The definition without decorators that change nothing and the comments above them."""
    found = concrete.place(node).node
    assert isinstance(found, cst.ClassDef | cst.FunctionDef)
    pairs = zip(node.decorator_list, found.decorators, strict=True)
    return found.with_changes(decorators=[ours for d, ours in pairs if not only_notes(d, file)])


# the class's body


def _body(concrete: Concrete, node: ast.ClassDef, parts: ClassParts) -> cst.BaseSuite:
    found = concrete.place(node).node
    assert isinstance(found, cst.ClassDef)
    rows, init = list(_rows(concrete, node)), _written_init(parts)
    lines: list[Statement] = []
    above: list[cst.EmptyLine] = []  # comments that open the class stay even if the first attribute goes
    for line, stmts in rows:
        new = _kept(concrete, line, [s for s in stmts if _stays(s, s is node.body[0], parts)])
        if any(is_init(s) for s in stmts) and init is not None:
            new, init = init.with_changes(leading_lines=line.leading_lines), None
        if new is not None:
            lines.append(new.with_changes(leading_lines=[*above, *new.leading_lines]) if above else new)
            above = []
        elif line is rows[0][0] and not isinstance(line, cst.BaseCompoundStatement):
            above = [s for s in line.leading_lines if s.comment is not None]
    if init is not None:
        at = next((i for i, s in enumerate(lines) if isinstance(s, cst.FunctionDef)), len(lines))
        lines.insert(at, init.with_changes(leading_lines=[cst.EmptyLine(indent=False)] if at else []))
        new = new or lines[-1]
    lines = lines or [next((r for r, s in rows if isinstance(s[0], ast.Pass)), PASS)]
    if list(lines[0].leading_lines) != list(rows[0][0].leading_lines):  # what opened the class is gone
        lines[0] = lines[0].with_changes(leading_lines=list(dropwhile(_is_empty, lines[0].leading_lines)))
    return _suite(found.body, lines, footer=new is not None)


def _is_empty(line: cst.EmptyLine) -> bool:
    return line.comment is None


def _suite(suite: cst.BaseSuite, lines: list[Statement], footer: bool) -> cst.BaseSuite:
    """The lines in place of what was in the class: on its own line if they were there and still can be.

    ``footer``: whether the comments at the end stay.
    """
    if isinstance(suite, cst.SimpleStatementSuite) and isinstance(lines[0], cst.SimpleStatementLine) and not lines[1:]:
        return suite.with_changes(body=lines[0].body)
    if isinstance(suite, cst.IndentedBlock):
        return suite.with_changes(body=lines, footer=suite.footer if footer else [])
    return cst.IndentedBlock(lines)


def _rows(concrete: Concrete, node: ast.ClassDef) -> Iterator[tuple[Statement, list[ast.stmt]]]:
    """The lines of a class and the statements on each; ``class A: x = 1; y = 2`` has one."""
    rows: list[tuple[Line, list[ast.stmt]]] = []
    for stmt in node.body:
        line = concrete.place(stmt).line
        if rows and rows[-1][0] is line:
            rows[-1][1].append(stmt)
        else:
            rows.append((line, [stmt]))
    for line, stmts in rows:
        if isinstance(line, cst.SimpleStatementSuite):
            yield cst.SimpleStatementLine(line.body, trailing_whitespace=line.trailing_whitespace), stmts
        else:
            yield line, stmts


def _kept(concrete: Concrete, line: Statement, stmts: Sequence[ast.stmt]) -> Statement | None:
    """The line with only these statements."""
    if not stmts:
        return None
    if not isinstance(line, cst.SimpleStatementLine):
        return line
    return only(line, [concrete.place(s).node for s in stmts])


def only(line: cst.SimpleStatementLine, kept: Sequence[cst.CSTNode]) -> cst.SimpleStatementLine:
    """The line with these of its statements."""
    if kept[-1] is not line.body[-1] and len(kept) < len(line.body):
        kept = [*kept[:-1], kept[-1].with_changes(semicolon=cst.MaybeSentinel.DEFAULT)]
    return line.with_changes(body=kept)


def _written_init(parts: ClassParts) -> cst.FunctionDef | None:
    if not parts.init:
        return None
    text = "class _:\n" + "\n".join(parts.init) + "\n"
    written = cst.parse_statement(text, cst.PartialParserConfig(default_indent="    "))
    assert isinstance(written, cst.ClassDef)
    init = written.body.body[0]
    assert isinstance(init, cst.FunctionDef)
    return init


def is_init(stmt: ast.stmt) -> bool:
    return isinstance(stmt, ast.FunctionDef) and stmt.name == "__init__"


def _stays(stmt: ast.stmt, first: bool, parts: ClassParts) -> bool:
    if isinstance(stmt, ast.FunctionDef | ast.AsyncFunctionDef):
        return stmt.name in parts.methods and not is_init(stmt)
    if isinstance(stmt, ast.Assign):
        names = {n.id for t in stmt.targets for n in ast.walk(t) if isinstance(n, ast.Name)}
        return bool(names & parts.attributes)
    if isinstance(stmt, ast.AnnAssign) and isinstance(stmt.target, ast.Name):
        return stmt.value is None or stmt.target.id in parts.attributes
    if isinstance(stmt, ast.Expr) and isinstance(stmt.value, ast.Constant):
        return first
    return not isinstance(stmt, ast.Pass)
