"""The author's ``__init__``, statement by statement: which instances reach it, and which attribute it finally sets."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass

from ..author import evaluate, proved
from ..live import PARAMETER
from ..text import only_call, pairs_of
from .context import ClassContext

Mask = frozenset[int]


@dataclass(frozen=True)
class Setting:
    """A statement that sets an attribute, and the instances that reach it."""

    attribute: str
    stmt: ast.stmt
    value: ast.expr | None
    mask: Mask


class Walk:
    """What happened when the author's constructor ran, found by evaluating its conditions again."""

    def __init__(self, context: ClassContext) -> None:
        self.context = context
        self.taken: dict[ast.If, dict[int, bool]] = {}
        self.settings: list[Setting] = []
        init = context.author.init
        if init is not None:
            self._block(init.body, frozenset(range(len(context.paths))))
        self.final = self._final()

    def _block(self, body: Sequence[ast.stmt], mask: Mask) -> None:
        for stmt in body:
            if isinstance(stmt, ast.If):
                truths = {i: self._truth(stmt, i) for i in mask}
                if all(t is not None for t in truths.values()):
                    self.taken[stmt] = {i: bool(t) for i, t in truths.items()}
                    self._block(stmt.body, frozenset(i for i, t in truths.items() if t))
                    self._block(stmt.orelse, frozenset(i for i, t in truths.items() if not t))
                continue
            for name, value in self.settings_in(stmt):
                self.settings.append(Setting(name, stmt, value, mask))

    def settings_in(self, stmt: ast.AST) -> list[tuple[str, ast.expr | None]]:
        """What a statement sets. ``self.a, self.b = x, y`` is taken apart where it sets nothing else, or parameters;
        so is ``self.a = self.b = x``."""
        owner = self.context.author.self_name
        found = setting_of(stmt, owner)
        if found is not None:
            return [found]
        chain = [own_attribute(t, owner) for t in stmt.targets] if isinstance(stmt, ast.Assign) else []
        if isinstance(stmt, ast.Assign) and len(chain) > 1 and all(chain):
            return [(name, stmt.value) for name in chain if name]
        both = pairs_of(stmt.targets[0], stmt.value) if isinstance(stmt, ast.Assign) and not stmt.targets[1:] else []
        pairs = [(n, v) for t, v in both if (n := own_attribute(t, owner)) is not None]
        kinds = {r[n].kind for r in self.context.records for n, _ in pairs if n in r}
        whole = len(pairs) == len(both)
        return list(pairs) if PARAMETER in kinds or (kinds and whole) else []

    def _truth(self, stmt: ast.If, index: int) -> bool | None:
        """Whether the instance took the branch: from the modules it made there, else by evaluating the condition."""
        birth = self.context.births[index]
        if birth is None:
            return None
        for name in self.context.records[index]:
            line = self.context.line_of(index, name)
            if line is not None and stmt.lineno <= line <= (stmt.end_lineno or 0):
                return line <= (stmt.body[-1].end_lineno or 0)
        names = {**birth.locals, **birth.arguments, self.context.author.self_name: birth.module}
        hidden = self.context.author.stored
        return proved(lambda: bool(evaluate(stmt.test, names, self.context.author.globals, hidden)))

    def _final(self) -> dict[tuple[str, int], ast.stmt]:
        """(attribute, instance) -> the statement that set it last."""
        final: dict[tuple[str, int], ast.stmt] = {}
        for setting in self.settings:
            for i in setting.mask:
                final[setting.attribute, i] = setting.stmt
        for i, record in enumerate(self.context.records):
            for name in record:
                line = self.context.line_of(i, name)
                stmts = [s.stmt for s in self.settings if s.attribute == name and line is not None]
                made = [s for s in stmts if s.lineno <= (line or 0) <= (s.end_lineno or 0)]
                if made:
                    final[name, i] = made[-1]
        return final


def setting_of(stmt: ast.AST, owner: str) -> tuple[str, ast.expr | None] | None:
    """(attribute, expression) of ``self.x = ...``, of ``self.x = y = ...``, and of the calls that register something
    under a constant name."""
    if isinstance(stmt, ast.Assign):
        names = [n for t in stmt.targets if (n := own_attribute(t, owner))]
        return (names[0], stmt.value) if len(names) == 1 else None
    if isinstance(stmt, ast.AnnAssign) and stmt.value is not None:
        return (name, stmt.value) if (name := own_attribute(stmt.target, owner)) else None
    if (call := only_call(stmt)) is not None:
        made = own_attribute(call.func, owner)
        registering = made in ("register_buffer", "register_parameter", "add_module", "register_module")
        if registering and call.args and isinstance(call.args[0], ast.Constant) and isinstance(call.args[0].value, str):
            return call.args[0].value, call.args[1] if len(call.args) > 1 else None
    return None


def own_attribute(node: ast.expr, owner: str) -> str | None:
    own = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == owner
    return node.attr if own and isinstance(node, ast.Attribute) else None
