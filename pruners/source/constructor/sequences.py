"""Calls of the parent's constructor, and lists of layers of which some are optional."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from torch import nn

from ...errors import SharedCodeError
from ..live import Box, Call, Display, Hole, Item, Term, torch_base
from ..text import STEP, Group, Lines, commented, flat, indented, lines_of, only_call
from .conditions import Conditions
from .printer import Code
from .unify import unify
from .walk import Mask


class Sequences(Conditions):
    """Adds the base call and lists."""

    def _base_call(self, stmt: ast.stmt | None) -> Lines:
        bases = self.context.bases
        if "" in self._done_names():
            return []
        self._done.add(("", 0))
        if bases[0] is None:
            return self._plain_base(stmt)
        term = self._terms.setdefault(("", frozenset()), self._base_term(bases))
        if isinstance(term, Hole):
            return [f"{self._super()}*{flat(self.printer.code(term))})"]
        if isinstance(term, Box) and any(i.present is not None for i in term.items):
            everyone = frozenset(range(len(self.context.paths)))
            name, lines = self._list(term, None, everyone)
            return [*lines, f"{self._super()}*{name})"]
        said = self._as_said(stmt, term)
        if said is not None:
            return lines_of(said, "", "", self._width)
        code = self.printer.code(term)
        inner = code if isinstance(code, Group) else Group(code, (), "")
        name = self.printer.namer.text(term.fn) if isinstance(term, Call | Box) else ""
        opened = inner.open.removeprefix(name) if inner.open.startswith(name) else inner.open[inner.open.index("(") :]
        return lines_of(
            Group(self._super() + opened.removeprefix("("), inner.parts, inner.close, inner.explode),
            "",
            "",
            self._width,
        )

    def _as_said(self, stmt: ast.stmt | None, term: Term) -> Code | None:
        """The author's own ``super().__init__(in_channels, ...)`` with the arguments that changed replaced."""
        call = only_call(stmt)
        if call is None or not isinstance(term, Call) or not self._super().startswith("super") or not call.args:
            return None
        return self.printer.guided(term, call)

    def _base_term(self, bases: Sequence[Call | Box | None]) -> Term:
        """The common arguments of ``super().__init__``; a hole for a list of layers where they have none."""
        context, values = self.context, [i.value for b in bases if isinstance(b, Box) for i in b.items]
        paths = [p for v in values if isinstance(v, Call | Box) for p in v.paths]
        # handed over, but not under names of their own
        handed = paths and all(p is None or (context.passed_in(p) and context.made_at(p) is None) for p in paths)
        term = Hole(tuple(bases), ("layers",)) if handed else unify(bases, ("super",), self.context)
        if not isinstance(term, Hole):
            return term
        if not all(isinstance(b, Box) for b in bases):
            raise SharedCodeError(
                f"instances of {self.author.cls.__qualname__} differ too much to share one constructor",
                site=self.author.init_file.at(self.author.init or self.author.node),
            )
        lists = [Display("list", tuple(i.value for i in b.items)) for b in bases if isinstance(b, Box)]
        return Hole(tuple(lists), ("layers",))

    def _list(self, term: Box, call: ast.expr | None, mask: Mask) -> tuple[str, Lines]:
        """Statements that fill a list with the elements, some of them under a condition, and the list's name."""
        name = self._list_name(call)
        self.lists.add(name)
        runs: list[tuple[str | None, list[Item]]] = []
        for item in term.items:
            test = self._item_test(item, mask)
            if runs and runs[-1][0] == test:
                runs[-1][1].append(item)
            else:
                runs.append((test, [item]))
        lines: Lines = []
        for i, (test, items) in enumerate(runs):
            width = self._width - (len(STEP) if test else 0)
            codes = [self._item_code(item, mask) for item in items]
            if len(codes) > 1 or (i == 0 and test is None):
                pairs = zip(codes, items, strict=True)
                codes = [commented(c, *self.printer.comments_at(item.value)) for c, item in pairs]
            if i == 0 and test is None:
                lines += lines_of(Group("[", tuple(codes), "]", len(codes) > 1), f"{name} = ", "", width)
                continue
            if i == 0:
                lines.append(f"{name}: list[{self.printer.namer.text(nn.Module)}] = []")
            if len(codes) == 1:
                before, after = self.printer.comments_at(items[0].value)
                added = [*before, *lines_of(Group(f"{name}.append(", tuple(codes), ")"), "", "", width)]
                added[-1] += f"  {after}" if after else ""
            else:
                added = lines_of(Group("[", tuple(codes), "]", True), f"{name} += ", "", width)
            lines += [f"if {test}:", *indented(added)] if test else added
        return name, lines

    def _item_code(self, item: Item, mask: Mask) -> Code:
        active = self.printer.active
        self.printer.active = tuple(i for i in sorted(mask) if item.present is None or item.present[i])
        code = self.printer.code(item.value)
        self.printer.active = active
        return code

    def _list_name(self, call: ast.expr | None) -> str:
        """The author's list, as in ``nn.Sequential(*layers)``."""
        starred = [a.value for a in call.args if isinstance(a, ast.Starred)] if isinstance(call, ast.Call) else []
        return starred[0].id if starred and isinstance(starred[0], ast.Name) else "layers"

    def _super(self) -> str:
        """``super().__init__(``, or torch's class by name where an author's parent has a constructor of its own."""
        cls = self.author.cls
        if any(parent in self.context.tree.instances for parent in cls.__mro__[1:]):
            return f"{self.printer.namer.text(torch_base(cls))}.__init__({self.author.self_name}, "
        return "super().__init__("

    def _plain_base(self, stmt: ast.stmt | None) -> Lines:
        if not self._super().startswith("super"):
            return [self._super().removesuffix(", ") + ")"]
        call = only_call(stmt)
        bare = stmt is not None and call is not None and not call.args and not call.keywords
        return self._verbatim(stmt) if stmt is not None and bare else ["super().__init__()"]

    def _base_first(self) -> Lines:
        """``super().__init__()`` before the first attribute, also where the author built the children before it."""
        return [] if "" in self._done_names() else [*self._base_call(None), ""]
