"""What a constructor is written from, and its conditions: the author's where they still hold, else flags."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from ..author import Scope, Vector, proved
from ..live import Box, Call, Hole, Item, Lit, Term, attempted, literal
from ..text import WIDTH, Lines, loaded_names, rows, with_values
from .buffer_statements import Preparation, dotted, preparation
from .context import ClassContext
from .printer import Printer
from .walk import Mask, Walk

INDENT = 8  # of statements in a method
Wanted = Sequence[tuple[int, object]]


class Conditions:
    """The state of one writing. ``flags``: names for conditions that no longer follow from the widths."""

    def __init__(self, context: ClassContext, walk: Walk, scope: Scope, printer: Printer) -> None:
        self.context = context
        self.author = context.author
        self.walk = walk
        self.scope = scope
        self.printer = printer
        self.flags: dict[str, tuple[Term | None, ...]] = {}
        self.locals: set[str] = set()
        self._undefined: dict[str, tuple[Term | None, ...]] = {}  # those of them that the text can't read yet
        self.used: set[str] = set()  # names that the rest of the text uses, once that is known
        self.lines: Lines = []  # the constructor's body as it was written last
        self.lists: set[str] = set()  # local names of lists
        self.said: Mapping[str, Vector | None] = {}  # the author's expressions, and what stands there now
        self.untold: dict[str, None] = {}  # what of the author's constructor the text doesn't have
        self._dropped: list[ast.If] = []  # conditions of which a branch isn't there any more
        self._terms: dict[tuple[str, Mask], Term] = {}
        self._done: set[tuple[str, int]] = set()
        self._ready: set[str] = set()  # constants and statements that stand already because a buffer needs them
        self._ready_statements: set[ast.stmt] = set()
        self.kept: dict[ast.stmt, Lines] = {}  # the author's statements that make what is handed on; lines before them
        self._keeping: dict[ast.stmt, Lines] = {}  # those that this pass found
        self._current: ast.stmt | None = None  # the statement that is being written
        self._depth = 0
        self._depth_resolved = 0  # inside how many branches whose condition is settled

    def tell(self, what: str, node: ast.expr | ast.stmt) -> None:
        """Notes that something of the author's is lost."""
        self.untold[f"{self.author.cls.__qualname__}.{what} (line {node.lineno})"] = None

    def _test(self, stmt: ast.If, yes: Mask, no: Mask, flag: str = "") -> str:
        """The author's condition if it still tells the instances apart, else a flag."""
        told = self._told(stmt.test, yes, no)
        if told is not None:
            return told
        names = [s.attribute for s in self.walk.settings if stmt.lineno <= s.stmt.lineno <= (stmt.end_lineno or 0)]
        return self._flag([flag] if flag else [f"with_{name}" for name in names], yes, no)

    def _told(self, test: ast.expr, yes: Mask, no: Mask) -> str | None:
        """The author's condition if it still tells the instances apart."""
        wanted = [(i, Lit(i in yes)) for i in yes | no]
        if proved(lambda: all(bool(self.scope.value(test, i)) is t.value for i, t in wanted)):
            return self.author.init_file.segment(test)
        self.wish(test, wanted)
        return None

    def tells(self, test: ast.expr, yes: Mask, no: Mask) -> str:
        """The condition of the author's ``a if test else b``, or a flag; one for each way that it tells instances
        apart."""
        told = self._told(test, yes, no)
        vector = tuple(Lit(i in yes) if i in yes | no else None for i in range(len(self.context.paths)))
        known = next((n for n, v in self.flags.items() if v == vector), None)
        return told or known or self._flag([], yes, no)

    def _flag(self, names: Sequence[str], yes: Mask, no: Mask) -> str:
        """The first of the names that tells no other instances apart."""
        vector = tuple(Lit(i in yes) if i in yes | no else None for i in range(len(self.context.paths)))
        for flag in (*names, f"branch_{len(self.flags) + 1}"):
            pairs = list(zip(self.flags.get(flag, vector), vector, strict=True))
            if all(None in (known, told) or known == told for known, told in pairs):
                break
        self.flags[flag] = tuple(known or told for known, told in pairs)
        return flag

    def wish(self, test: ast.expr, wanted: Sequence[tuple[int, Lit]]) -> None:
        """Notes author's parameters that are the same everywhere but that a condition needs."""
        names = loaded_names(test) & set(self.scope.hidden) & set(self.author.parameters)
        if proved(lambda: all(bool(self.scope.value(test, i, hidden=True)) is t.value for i, t in wanted)):
            self.printer.wishes |= names

    def _item_test(self, item: Item, mask: Mask) -> str | None:
        if item.present is None or all(item.present[i] for i in mask):
            return None
        yes = frozenset(i for i in mask if item.present[i])
        paths = item.value.paths if isinstance(item.value, Call | Box) else ()
        value = item.value.values if isinstance(item.value, Hole) else ()
        paths = paths or tuple(p for v in value if isinstance(v, Call | Box) for p in v.paths)
        making = self.context.making(next((p for p in paths if p is not None), None))
        line = making.birth.line_in(making.owner.module) if making is not None else None
        for stmt, taken in self.walk.taken.items():
            inside = line is not None and stmt.lineno <= line <= (stmt.body[-1].end_lineno or 0)
            if inside and all(taken.get(i) is (i in yes) for i in mask):
                return self._test(stmt, yes, mask - yes, f"with_layer{item.name}")
        return self._flag([f"with_layer{item.name}"], yes, mask - yes)

    @property
    def _width(self) -> int:
        return WIDTH - INDENT - 4 * self._depth

    def _done_names(self) -> set[str]:
        return {n for n, _ in self._done}

    def _opaque_attributes(
        self, span: tuple[int, int], mask: Mask | None = None, all_instances: bool = False
    ) -> list[str]:
        """Attributes made while a statement ran that no followed statement sets."""
        followed = {(n, i) for n, i in self.walk.final}
        found = []
        for name in self.context.attributes():
            for i, record in enumerate(self.context.records):
                if (name, i) in followed or name not in record or (name in self.context.torn and not all_instances):
                    continue
                if not all_instances and ((mask is not None and i not in mask) or (name, i) in self._done):
                    continue
                line = self.context.line_of(i, name)
                if line is not None and span[0] <= line <= span[1]:
                    found.append(name)
                    break
        return found

    def _preparation(self, stmt: ast.stmt | None, expr: ast.expr, wanted: Wanted) -> Preparation | None:
        """What has to run before an expression of a statement, for it to give these objects (instance, object)."""
        births = {i: b for i, _ in wanted if (b := self.context.births[i]) is not None}
        if stmt is None or len(births) < len(wanted):
            return None
        given = {i: b.arguments for i, b in births.items()}
        return attempted(stmt, lambda: preparation(self.scope, stmt, expr, wanted, given))

    def _constants(self, constants: Mapping[str, Any]) -> Lines:
        """What stands before the author's statements that read these names."""
        return [f"{n} = {literal(v)}" for n, v in constants.items() if n.isidentifier()]

    def _filled(self, stmt: ast.stmt, constants: Mapping[str, Any]) -> Lines:
        """The author's statement, with what attributes of objects that are gone were."""
        said = with_values(stmt, dotted(constants))
        return self._verbatim(stmt) if said is stmt else rows(ast.unparse(said))

    def _verbatim(self, stmt: ast.stmt) -> Lines:
        return rows(self.author.init_file.concrete.statement(stmt))
