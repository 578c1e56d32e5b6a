"""Writes the straight-line constructor of one class, following the author's statements where they still hold."""

from __future__ import annotations

import ast
import builtins
import textwrap
import types
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from pruners.errors import SourceError
from pruners.source.author import Unproved
from pruners.source.context import ClassContext
from pruners.source.hints import loaded_names, stored_names
from pruners.source.layout import STEP, WIDTH, Group, flat, lines_of
from pruners.source.names import unwelcome
from pruners.source.printer import Code, Printer
from pruners.source.records import BUFFER, CHILD, PARAMETER
from pruners.source.scope import Scope
from pruners.source.terms import Box, Call, Display, Hole, Item, Lit, Term, unify
from pruners.source.tensors import creator, gives_tensor, size_hints
from pruners.source.tree import torch_base
from pruners.source.walk import Mask, Walk, line_in, setting_of

Lines = list[str]
SMALL = 64  # elements of a buffer that may be written as a literal
INDENT = 8  # of statements in a method


class InitWriter:
    """One pass over the author's statements. ``flags``: names for conditions that no longer follow from the widths."""

    def __init__(self, context: ClassContext, walk: Walk, scope: Scope, printer: Printer) -> None:
        self.context = context
        self.author = context.author
        self.walk = walk
        self.scope = scope
        self.printer = printer
        self.flags: dict[str, tuple[Term | None, ...]] = {}
        self.locals: set[str] = set()
        self.used: set[str] = set()  # names that the rest of the text uses, once that is known
        self.outputs: dict[ast.stmt, Lines] = {}  # what became of each statement
        self.lists: set[str] = set()  # local names of lists
        self._terms: dict[tuple[str, Mask], Term] = {}
        self._done: set[tuple[str, int]] = set()
        self._depth = 0

    def write(self) -> Lines:
        """The body's lines, not indented."""
        self._done.clear()
        self.outputs.clear()
        self.scope.placed.clear()
        self.flags.clear()
        everyone = frozenset(range(len(self.context.paths)))
        init = self.author.init
        if init is None:
            return [*self._base_call(None), *self._rest(everyone)]
        self._last_setting = self._find_last_setting(init.body)
        lines = self._block(init.body, everyone, init.body[0].lineno - 1)
        lines += self._rest(everyone)
        return _tidy(lines)

    def _find_last_setting(self, body: Sequence[ast.stmt]) -> ast.stmt | None:
        """The last top-level statement that makes part of the module; what follows only initialises."""
        last = None
        for stmt in body:
            ends = (stmt.lineno, stmt.end_lineno or 0)
            if self._opaque_attributes(ends, all_instances=True) or self._sets_inside(stmt):
                last = stmt
        return last

    def _sets_inside(self, stmt: ast.stmt) -> bool:
        inside = [n for n in ast.walk(stmt) if isinstance(n, ast.stmt)]
        return any(s.stmt in inside and self.context.wanted(s.attribute) for s in self.walk.settings)

    def lost_words(self) -> set[str]:
        """Names that some statement of the author read and that its new form doesn't read, or not as often."""
        lost: set[str] = set()
        for stmt in self._statements(self.author.init.body if self.author.init else []):
            lines = self.outputs.get(stmt, [])
            before = _uses(stmt.test if isinstance(stmt, ast.If) else stmt)
            after = _uses(_parsed(lines[:1] if isinstance(stmt, ast.If) else lines))
            lost |= {name for (name, text), n in before.items() if after.get((name, text), 0) < n}
        return lost

    def _statements(self, body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
        """Statements that can lose something: not checks, not definitions of names that nothing needs."""
        for stmt in body:
            local = isinstance(stmt, ast.Assign | ast.AnnAssign) and stored_names(stmt)
            if isinstance(stmt, ast.If) and only_raises(stmt):
                continue
            if not local or loaded_names(stmt):
                yield stmt
            if isinstance(stmt, ast.If):
                yield from self._statements([*stmt.body, *stmt.orelse])

    # blocks

    def _block(self, body: Sequence[ast.stmt], mask: Mask, start: int) -> Lines:
        lines: Lines = []
        previous_end = start
        for stmt in body:
            first = min([stmt.lineno, *(d.lineno for d in getattr(stmt, "decorator_list", ()))])
            above = self.author.init_file.lines[previous_end : first - 1]
            previous_end = stmt.end_lineno or previous_end
            written = self._statement(stmt, mask)
            self.outputs[stmt] = written
            if written:
                lines += [s.strip() for s in above if not s.strip() or s.lstrip().startswith("#")]
                lines += written
            elif any(not s.strip() for s in above):
                lines.append("")
            if stmt is self._last_setting and self._depth == 0:
                lines += self._rest(mask)
        return lines

    def _nested(self, body: Sequence[ast.stmt], mask: Mask, start: int) -> Lines:
        self._depth += 1
        lines = _tidy(self._block(body, mask, start))
        self._depth -= 1
        return lines

    def _statement(self, stmt: ast.stmt, mask: Mask) -> Lines:
        if not mask:
            return []
        if _is_docstring(stmt, self.author.init):
            return self._verbatim(stmt)
        if self._is_super(stmt):
            return [*self._base_call(stmt), *self._opaque(stmt, mask)]
        if isinstance(stmt, ast.If):
            return self._if(stmt, mask)
        found = setting_of(stmt, self.author.self_name)
        if found is not None:
            return self._setting(stmt, found[0], found[1], mask)
        if isinstance(stmt, ast.Assign | ast.AnnAssign) and stored_names(stmt):
            return [*self._opaque(stmt, mask), *self._local(stmt)]
        if isinstance(stmt, ast.Pass | ast.Return | ast.Import | ast.ImportFrom | ast.Global | ast.FunctionDef):
            return []
        if isinstance(stmt, ast.AugAssign) and isinstance(stmt.target, ast.Name):
            return []
        placed = self._opaque(stmt, mask)
        if placed or self._makes(stmt):
            return placed
        return self._effect(stmt)

    def _is_super(self, stmt: ast.stmt) -> bool:
        if not isinstance(stmt, ast.Expr) or not isinstance(stmt.value, ast.Call):
            return False
        func = stmt.value.func
        return isinstance(func, ast.Attribute) and func.attr == "__init__"

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
        code = self.printer.code(term)
        inner = code if isinstance(code, Group) else Group(code, (), "")
        name = self.printer.namer.text(term.fn) if isinstance(term, Call | Box) else ""
        opened = inner.open.removeprefix(name) if inner.open.startswith(name) else inner.open[inner.open.index("(") :]
        return lines_of(Group(self._super() + opened.removeprefix("("), inner.parts, inner.close, inner.explode), "", "", self._width)

    def _base_term(self, bases: Sequence[Call | Box | None]) -> Term:
        """The common arguments of ``super().__init__``; a hole for a list of layers where they have nothing in common."""
        paths = [p for b in bases if isinstance(b, Box) for i in b.items if isinstance(i.value, Call | Box) for p in i.value.paths]
        handed = bool(paths) and all(p is None or self.context.passed_in(p) for p in paths)
        term = Hole(tuple(bases), ("layers",)) if handed else unify(bases, ("super",), self.context)
        if not isinstance(term, Hole):
            return term
        if not all(isinstance(b, Box) for b in bases):
            raise SourceError(
                f"{self.author.init_file.at(self.author.init or self.author.node)}: instances of "
                f"{self.author.cls.__qualname__} differ too much to share one constructor"
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
            if i == 0 and test is None:
                lines += lines_of(Group("[", tuple(codes), "]", len(codes) > 1), f"{name} = ", "", width)
                continue
            if i == 0:
                lines.append(f"{name}: list[{self.printer.namer.text(nn.Module)}] = []")
            if len(codes) == 1:
                added = lines_of(Group(f"{name}.append(", tuple(codes), ")"), "", "", width)
            else:
                added = lines_of(Group("[", tuple(codes), "]", True), f"{name} += ", "", width)
            lines += [f"if {test}:", *_indented(added)] if test else added
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

    def _item_test(self, item: Item, mask: Mask) -> str | None:
        if item.present is None or all(item.present[i] for i in mask):
            return None
        yes = frozenset(i for i in mask if item.present[i])
        paths = item.value.paths if isinstance(item.value, Call | Box) else ()
        value = item.value.values if isinstance(item.value, Hole) else ()
        paths = paths or tuple(p for v in value if isinstance(v, Call | Box) for p in v.paths)
        line = self._line_of(next((p for p in paths if p is not None), None))
        for stmt, taken in self.walk.taken.items():
            inside = line is not None and stmt.lineno <= line <= (stmt.body[-1].end_lineno or 0)
            if inside and all(taken.get(i) is (i in yes) for i in mask):
                return self._test(stmt, yes, mask - yes, f"with_layer{item.name}")
        return self._flag(f"with_layer{item.name}", yes, mask - yes)

    def _line_of(self, path: str | None) -> int | None:
        birth = self.context.tree.birth(path) if path is not None else None
        owner = self.context.owner(path) if path is not None else None
        return line_in(birth, owner.module) if birth and owner and owner.module is not None else None

    def _super(self) -> str:
        """``super().__init__(``, or torch's class by name where an author's parent has a constructor of its own."""
        cls = self.author.cls
        if any(parent in self.context.tree.instances for parent in cls.__mro__[1:]):
            return f"{self.printer.namer.text(torch_base(cls))}.__init__({self.author.self_name}, "
        return "super().__init__("

    def _plain_base(self, stmt: ast.stmt | None) -> Lines:
        if not self._super().startswith("super"):
            return [self._super().removesuffix(", ") + ")"]
        if isinstance(stmt, ast.Expr) and isinstance(stmt.value, ast.Call) and not stmt.value.args and not stmt.value.keywords:
            return self._verbatim(stmt)
        return ["super().__init__()"]

    def _done_names(self) -> set[str]:
        return {n for n, _ in self._done}

    # conditions

    def _if(self, stmt: ast.If, mask: Mask) -> Lines:
        if only_raises(stmt):
            return self._check(stmt, mask)
        taken = self.walk.taken.get(stmt)
        if taken is None:
            placed = self._opaque(stmt, mask)
            return placed if placed or self._makes(stmt) or self._sets_inside(stmt) else self._effect(stmt)
        yes, no = (frozenset(i for i in mask if taken[i] is t) for t in (True, False))
        if not yes or not no:
            chosen = stmt.body if yes else stmt.orelse
            kept = self._verbatim_condition(stmt, mask)
            if kept is not None:
                return kept
            return self._block(chosen, mask, chosen[0].lineno - 1) if chosen else []
        return self._branches(stmt, yes, no)

    def _check(self, stmt: ast.If, mask: Mask) -> Lines:
        """A check of arguments stays if they are still arguments for another reason, and all instances pass it."""
        tests = [n.test for n in ast.walk(stmt) if isinstance(n, ast.If)]
        try:
            passed = not any(bool(self.scope.value(t, i)) for t in tests for i in mask)
        except Unproved:
            return []
        words = loaded_names(stmt) & (set(self.author.parameters) | self.author.stored)
        return self._effect(stmt) if passed and words and words <= self.used else []

    def _verbatim_condition(self, stmt: ast.If, mask: Mask) -> Lines | None:
        """The author's whole statement where it only initialises and still reads the same names."""
        if self._sets_inside(stmt) or self._opaque_attributes((stmt.lineno, stmt.end_lineno or 0), mask=mask):
            return None
        names = loaded_names(stmt.test) & set(self.scope.words)
        return (self._effect(stmt) or None) if names else None

    def _branches(self, stmt: ast.If, yes: Mask, no: Mask) -> Lines:
        self.printer.active = tuple(sorted(yes))
        body = self._nested(stmt.body, yes, stmt.lineno)
        self.printer.active = tuple(sorted(no))
        other = self._nested(stmt.orelse, no, stmt.body[-1].end_lineno or 0)
        self.printer.active = tuple(sorted(yes | no))
        if not body and not other:
            return []
        test = self._test(stmt, yes, no)
        if not body:
            return [f"if not ({test}):", *_indented(other)]
        lines = [f"if {test}:", *_indented(body)]
        if len(stmt.orelse) == 1 and isinstance(stmt.orelse[0], ast.If) and other and other[0].startswith("if "):
            return [*lines, "el" + other[0], *other[1:]]
        return [*lines, "else:", *_indented(other)] if other else lines

    def _test(self, stmt: ast.If, yes: Mask, no: Mask, flag: str = "") -> str:
        """The author's condition if it still tells the instances apart, else a flag."""
        wanted = [(i, Lit(i in yes)) for i in yes | no]
        try:
            proved = all(bool(self.scope.value(stmt.test, i)) is t.value for i, t in wanted)
        except Unproved:
            proved = False
        if proved:
            return self.author.init_file.segment(stmt.test)
        self.wish(stmt.test, wanted)
        names = [s.attribute for s in self.walk.settings if stmt.lineno <= s.stmt.lineno <= (stmt.end_lineno or 0)]
        return self._flag(flag or (f"with_{names[0]}" if names else f"branch_{len(self.flags) + 1}"), yes, no)

    def wish(self, test: ast.expr, wanted: Sequence[tuple[int, Lit]]) -> None:
        """Notes author's parameters that are the same everywhere but that a condition needs."""
        names = loaded_names(test) & set(self.scope.hidden) & set(self.author.parameters)
        try:
            proved = all(bool(self.scope.value(test, i, hidden=True)) is t.value for i, t in wanted)
        except Unproved:
            return
        if proved:
            self.printer.wishes |= names

    def _flag(self, flag: str, yes: Mask, no: Mask) -> str:
        self.flags[flag] = tuple(Lit(i in yes) if i in yes | no else None for i in range(len(self.context.paths)))
        return flag

    # attributes

    def _setting(self, stmt: ast.stmt, name: str, value: ast.expr | None, mask: Mask) -> Lines:
        final = frozenset(i for i in mask if self.walk.final.get((name, i)) is stmt and name in self.context.records[i])
        if final and all(self.context.records[i][name].term is not None for i in final):
            if self.author.sets_once(name):
                self.scope.placed.add(name)  # if text reads it, it will be kept
        if not final or not self.context.wanted(name):
            return []
        return [*self._base_first(), *self._attribute(name, final, stmt, value)]

    def _base_first(self) -> Lines:
        """``super().__init__()`` before the first attribute, also where the author built the children before it."""
        return [] if "" in self._done_names() else [*self._base_call(None), ""]

    def _attribute(self, name: str, mask: Mask, stmt: ast.stmt | None, value: ast.expr | None) -> Lines:
        """``self.name = ...`` for the instances of the mask."""
        self._done |= {(name, i) for i in mask}
        if self.author.sets_once(name):
            self.scope.placed.add(name)
        kind = next(self.context.records[i][name].kind for i in sorted(mask))
        term = self._term(name, mask)
        active, self.printer.active = self.printer.active, tuple(sorted(mask))
        hint = value if kind not in (PARAMETER, BUFFER) else None
        if isinstance(term, Box) and any(i.present is not None for i in term.items):
            list_name, lines = self._list(term, value, mask)
            code: Code = f"{self.printer.namer.text(term.fn)}(*{list_name})"
            self.printer.active = active
            return [*lines, *self._like_author(self._assignment(name, kind, code, stmt), stmt)]
        code = self._tensor(name, kind, term, value, mask) or self.printer.code(term, hint)
        self.printer.active = active
        lines = self._assignment(name, kind, code, stmt)
        return self._like_author(lines, stmt)

    def _term(self, name: str, mask: Mask) -> Term:
        if (name, mask) not in self._terms:
            column: list[Term | None] = []
            for i, record in enumerate(self.context.records):
                slot = record.get(name) if i in mask else None
                if slot is not None and slot.term is None:
                    raise SourceError(f"{self._place(name)}: self.{name} can't be written: {slot.why}")
                column.append(slot.term if slot else None)
            self._terms[name, mask] = unify(column, (name,), self.context)
        return self._terms[name, mask]

    def _place(self, name: str) -> str:
        stmt = next((s.stmt for s in self.walk.settings if s.attribute == name), self.author.node)
        return self.author.init_file.at(stmt)

    def _tensor(self, name: str, kind: str, term: Term, value: ast.expr | None, mask: Mask) -> Code | None:
        """Code for a parameter or buffer in the author's words, as far as they hold; None if there are none."""
        if kind not in (PARAMETER, BUFFER) or not isinstance(term, Call | Hole):
            return None
        live = [(i, getattr(self.context.live[i], name)) for i in sorted(mask)]
        exact = name in self.context.live[min(mask)]._non_persistent_buffers_set
        if value is not None and gives_tensor(self.scope, value, [(i, t, exact) for i, t in live]):
            return self.author.init_file.segment(value)
        if exact and any(t.numel() > SMALL for _, t in live):
            raise SourceError(
                f"{self._place(name)}: the buffer self.{name} is not in the state_dict, is too large for a literal, and "
                "no expression of the constructor gives its values; register it with persistent=True"
            )
        if exact or value is None or not isinstance(term, Call):
            return None
        made = term.args[0].value if kind == PARAMETER else term
        if not isinstance(made, Call):
            return None
        hints = size_hints(value, sum(a.name.isdecimal() for a in made.args))
        return self.printer.sized(term, made, getattr(torch, creator(value)), hints)

    def _assignment(self, name: str, kind: str, code: Code, stmt: ast.stmt | None) -> Lines:
        owner = self.author.self_name
        if kind == BUFFER:
            tensors = [self.context.live[i] for i in range(len(self.context.paths)) if name in self.context.records[i]]
            extra = ("persistent=False",) if name in tensors[0]._non_persistent_buffers_set else ()
            return lines_of(Group(f"{owner}.register_buffer(", (f'"{name}"', code, *extra), ")"), "", "", self._width)
        if kind == PARAMETER and flat(code) == "None":
            return [f'{owner}.register_parameter("{name}", None)']
        if not name.isidentifier():
            return lines_of(Group(f"{owner}.add_module(", (f'"{name}"', code), ")"), "", "", self._width)
        if kind == CHILD and flat(code) == "None" and not isinstance(stmt, ast.Assign):
            return [f'{owner}.register_module("{name}", None)']
        note = f": {self.author.init_file.segment(stmt.annotation)}" if isinstance(stmt, ast.AnnAssign) else ""
        return lines_of(code, f"{owner}.{name}{note} = ", "", self._width)

    @property
    def _width(self) -> int:
        return WIDTH - INDENT - 4 * self._depth

    def _like_author(self, lines: Lines, stmt: ast.stmt | None) -> Lines:
        """The author's own lines where the new ones mean the same; else the author's comment is carried over."""
        if stmt is None:
            return lines
        text = "\n".join(lines)
        if _same_code(text, self.author.init_file.segment(stmt)):
            return self._verbatim(stmt)
        comment = self.author.init_file.comments.get(stmt.end_lineno or 0)
        if comment is not None and comment[0] >= (stmt.end_col_offset or 0):
            lines = [*lines[:-1], f"{lines[-1]}  {comment[1]}"]
        return lines

    # statements whose inside isn't followed

    def _opaque_attributes(self, span: tuple[int, int], mask: Mask | None = None, all_instances: bool = False) -> list[str]:
        """Attributes made while a statement ran that no followed statement sets."""
        followed = {(n, i) for n, i in self.walk.final}
        found = []
        for name in self.context.attributes():
            for i, (path, birth) in enumerate(zip(self.context.paths, self.context.births, strict=True)):
                if (name, i) in followed or name not in self.context.records[i] or birth is None or birth.module is None:
                    continue
                if not all_instances and ((mask is not None and i not in mask) or (name, i) in self._done):
                    continue
                line = line_in(self.context.tree.birth(f"{path}.{name}" if path else name), birth.module)
                if line is not None and span[0] <= line <= span[1]:
                    found.append(name)
                    break
        return found

    def _opaque(self, stmt: ast.stmt, mask: Mask) -> Lines:
        return self._all_unfollowed(self._opaque_attributes((stmt.lineno, stmt.end_lineno or 0), mask), mask)

    def _all_unfollowed(self, names: Sequence[str], mask: Mask) -> Lines:
        children = [n for n in names if any(n in r and r[n].kind == CHILD for r in self.context.records)]
        open_ = [n for n in children if any((n, i) not in self._done and n in self.context.records[i] for i in mask)]
        some = [n for n in open_ if any(n not in self.context.records[i] for i in mask)]
        handed = [n for n in open_ if any(self._handed(n, i) for i in mask)]
        family = self._family(open_, mask) if len(some) > 1 or len(handed) > 1 else []
        family = [*(self._base_first() if open_ else []), *family]
        return family + [line for n in names for line in self._unfollowed(n, mask)]

    def _handed(self, name: str, index: int) -> bool:
        path = self.context.paths[index]
        return name in self.context.records[index] and self.context.passed_in(f"{path}.{name}" if path else name)

    def _family(self, names: Sequence[str], mask: Mask) -> Lines:
        """Children that a loop makes, not equally many everywhere: the constructor takes them and adds them in a loop."""
        mine = {i: [n for n in names if n in self.context.records[i]] for i in mask}
        prefix, start = _numbered(next(iter(mine.values())))
        listed = all(ns == [f"{prefix}{start + k}" for k in range(len(ns))] for ns in mine.values()) and prefix
        column: list[Term | None] = [None] * len(self.context.paths)
        for i, ns in mine.items():
            terms = tuple(t for n in ns if (t := self.context.records[i][n].term) is not None)
            keys = () if listed else tuple(Lit(n) for n in ns)
            column[i] = Display("list" if listed else "dict", terms, keys)
        self._done |= {(n, i) for i, ns in mine.items() for n in ns}
        label = prefix.rstrip("_-.") + "s" if listed and prefix.rstrip("_-.").isidentifier() else "layers"
        hole = self._terms.setdefault((label, mask), Hole(tuple(column), (label,)))
        text, owner = flat(self.printer.code(hole)), self.author.self_name
        if listed:
            number = f", start={start}" if start else ""
            return [
                f"for i, layer in enumerate({text}{number}):",
                f'{STEP}{owner}.add_module(f"{prefix}{{i}}", layer)',
            ]
        return [f"for name, layer in {text}.items():", f"{STEP}{owner}.add_module(name, layer)"]

    def _makes(self, stmt: ast.stmt) -> bool:
        """Whether the statement only served to make modules: a loop over widths, a list that grows."""
        span = (stmt.lineno, stmt.end_lineno or 0)
        for path, birth in zip(self.context.paths, self.context.births, strict=True):
            if birth is None or birth.module is None:
                continue
            prefix = f"{path}." if path else ""
            for other, made in self.context.tree.births.items():
                if other.startswith(prefix) and other != path:
                    line = line_in(made, birth.module)
                    if line is not None and span[0] <= line <= span[1]:
                        return True
        return False

    def _unfollowed(self, name: str, mask: Mask) -> Lines:
        having = frozenset(i for i in mask if name in self.context.records[i] and (name, i) not in self._done)
        if not having:
            return []
        if having == mask:
            return self._attribute(name, having, None, None)
        if not name.isidentifier():
            raise SourceError(f"{self.author.file.at(self.author.node)}: only some instances have a child named {name!r}")
        self._done |= {(name, i) for i in having}
        column = tuple(self.context.records[i][name].term if i in having else Lit(None) for i in range(len(self.context.paths)))
        hole = self._terms.setdefault((name, having), Hole(column, (name,)))
        text = flat(self.printer.code(hole))
        return [f"if {text} is not None:", f"{STEP}{self.author.self_name}.{name} = {text}"]

    def _rest(self, mask: Mask) -> Lines:
        """Attributes that no statement of the author's constructor was found for."""
        return self._all_unfollowed(self.context.attributes(), mask)

    # everything else

    def _local(self, stmt: ast.stmt) -> Lines:
        names = stored_names(stmt)
        return self._verbatim(stmt) if names and names <= self.locals else []

    def _effect(self, stmt: ast.stmt) -> Lines:
        """Statements such as weight initialisation stay if every name in them still means something."""
        inside = stored_names(stmt)
        if self._hands_on(stmt):
            return []
        known = set(self.scope.words) | self.locals | inside | {self.author.self_name, "super"}
        gone = (set(self.author.parameters) | self.author.stored) - known
        names = loaded_names(stmt)
        free = names - known
        if free & gone or any(n not in self.author.globals and not hasattr(builtins, n) for n in free):
            return []
        if self._grows(stmt) or any(self._foreign(n) for n in free):
            return []
        return self._verbatim(stmt)

    def _hands_on(self, stmt: ast.stmt) -> bool:
        """Whether a statement assigns names that the constructor reads elsewhere, or that it reads itself."""
        kinds = (ast.Assign, ast.AugAssign, ast.AnnAssign)
        inner = [n for n in ast.walk(stmt) if isinstance(n, kinds)]
        assigned = set().union(*(stored_names(n) for n in inner))
        own = any(isinstance(n, ast.AugAssign) or stored_names(n) & loaded_names(n) for n in inner if stored_names(n))
        others = [s for s in self.author.init.body if not _within(stmt, s)] if self.author.init else []
        return own or bool(assigned & set().union(*(loaded_names(s) for s in others)))

    def _grows(self, stmt: ast.stmt) -> bool:
        """Whether a statement adds to the module in a way that was not followed."""
        settings = [setting_of(n, self.author.self_name) for n in ast.walk(stmt) if isinstance(n, ast.stmt)]
        calls = {n.func.attr for n in ast.walk(stmt) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)}
        makers = {"add_module", "register_module", "register_buffer", "register_parameter"}
        return any(s is not None for s in settings) or bool(calls & makers)

    def _foreign(self, name: str) -> bool:
        """Whether a name is a function of a package that generated code must not import (its telemetry, say)."""
        value = self.author.globals.get(name)
        return isinstance(value, types.FunctionType) and unwelcome(value.__module__)

    def _verbatim(self, stmt: ast.stmt) -> Lines:
        file = self.author.init_file
        lines = file.lines[stmt.lineno - 1 : stmt.end_lineno]
        own_line = not lines[0].encode()[: stmt.col_offset].strip() and ";" not in lines[-1].encode()[stmt.end_col_offset or 0 :].decode()
        text = "".join(lines) if own_line else " " * stmt.col_offset + file.segment(stmt)
        return dedented(text, stmt.col_offset)


def dedented(text: str, columns: int) -> Lines:
    """Lines moved left; lines inside strings that are further left stay."""
    return [s[columns:] if not s[:columns].strip() else s for s in text.rstrip("\n").split("\n")]


def _indented(lines: Lines) -> Lines:
    return [STEP + s if s else s for s in lines]


def _within(inner: ast.stmt, outer: ast.stmt) -> bool:
    return outer.lineno <= inner.lineno and (inner.end_lineno or 0) <= (outer.end_lineno or 0)


def _numbered(names: Sequence[str]) -> tuple[str, int]:
    """("layer", 1) for layer1, layer2 ...; an empty prefix where names are not numbered."""
    prefix = names[0].rstrip("0123456789") if names else ""
    digits = names[0][len(prefix) :] if names else ""
    return (prefix, int(digits)) if digits else ("", 0)


def _tidy(lines: Lines) -> Lines:
    """No blank lines at the ends, never two in a row."""
    kept = [s for i, s in enumerate(lines) if s.strip() or (i and lines[i - 1].strip())]
    while kept and not kept[-1].strip():
        kept.pop()
    return kept


def _is_docstring(stmt: ast.stmt, init: ast.AST | None) -> bool:
    first = getattr(init, "body", [None])[0]
    return stmt is first and isinstance(stmt, ast.Expr) and isinstance(stmt.value, ast.Constant)


def _parsed(lines: Lines) -> ast.AST:
    """The tree of some lines; a lone ``if ...:`` gets a body."""
    text = "\n".join(lines)
    for candidate in (text, f"{text} pass", f"{text.removeprefix('el')} pass"):
        try:
            return ast.parse(candidate)
        except SyntaxError:
            continue
    return ast.Module([], [])


def _uses(tree: ast.AST) -> dict[tuple[str, str], int]:
    """(name, how it is used: alone or with what index) -> how often."""
    counts: dict[tuple[str, str], int] = {}
    indexed = {id(n.value): ast.unparse(n) for n in ast.walk(tree) if isinstance(n, ast.Subscript | ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            key = (node.id, indexed.get(id(node), ""))
            counts[key] = counts.get(key, 0) + 1
    return counts


def only_raises(stmt: ast.If) -> bool:
    bodies = [*stmt.body, *(s for s in stmt.orelse if not isinstance(s, ast.If))]
    rest = [s for s in stmt.orelse if isinstance(s, ast.If)]
    return all(isinstance(s, ast.Raise) for s in bodies) and all(only_raises(s) for s in rest)


def _same_code(first: str, second: str) -> bool:
    try:
        return ast.dump(ast.parse(first)) == ast.dump(ast.parse(textwrap.dedent(second)))
    except SyntaxError:
        return False


