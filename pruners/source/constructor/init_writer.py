"""Writes the straight-line constructor of one class, following the author's statements where they still hold."""

from __future__ import annotations

import ast
import builtins
import types
from collections import Counter
from collections.abc import Iterator, Sequence, Set

from torch import nn

from ...places import Span
from ...run import computes_weights
from ..author import proved, unwelcome
from ..live import (
    CHILD,
    PLAIN,
    Box,
    author_init,
    holds_layers,
    is_authored,
    literal,
)
from ..text import (
    Lines,
    dedented,
    first_line,
    indented,
    is_docstring,
    loaded_names,
    only_call,
    only_raises,
    only_removes,
    parsed,
    replaced,
    rows,
    same_code,
    span_of,
    stored_names,
    tidy,
    uses,
    warns,
    with_values,
    without_dead_branches,
)
from .buffer_statements import changed, changed_attributes, dotted
from .context import conditional
from .followed import changed_by_methods
from .members import Members
from .starts import initialises, starts_weights
from .tensors import resizes
from .walk import Mask, own_attribute

Settings = Sequence[tuple[str, ast.expr | None]]


class InitWriter(Members):
    """One pass over the author's statements."""

    def write(self) -> Lines:
        """The body's lines, not indented."""
        self._done.clear()
        self.untold.clear()
        self._dropped.clear()
        self.kept, self._keeping = self._keeping, {}
        self.scope.placed.clear()
        self.flags.clear()
        self._ready.clear()
        self._ready_statements.clear()
        self._moved = set[ast.stmt]()
        everyone = frozenset(range(len(self.context.paths)))
        init = self.author.init
        if init is None:
            return [*self._base_call(None), *self._rest(everyone)]
        self._last_setting = self._find_last_setting(init.body)
        self._undefined = {n: self.scope.words.pop(n) for n in self.locals & set(self.scope.words)}
        lines = self._block(init.body, everyone, self.author.header_end)
        self.lines = tidy([*lines, *self._rest(everyone), *self.author.last_comments])
        self.scope.words.update(self._undefined)
        return self.lines

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
        before: Counter[tuple[str, str]] = Counter()
        for stmt in self._statements(self.author.init.body if self.author.init else []):
            before.update(uses(stmt.test if isinstance(stmt, ast.If) else stmt))
        after = uses(parsed(self.lines))
        return {name for (name, text), n in before.items() if after.get((name, text), 0) < n}

    def _statements(self, body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
        """Statements that can lose something: not checks, not branches that are never taken, not definitions of
        names and attributes that nothing needs."""
        for stmt in body:
            local = isinstance(stmt, ast.Assign | ast.AnnAssign) and stored_names(stmt)
            settings = self.walk.settings_in(stmt)
            unread = settings and not any(self.context.wanted(name) for name, _ in settings)
            if unread or (isinstance(stmt, ast.If) and only_raises(stmt)):
                continue
            if self._removes(stmt):
                continue
            if not local or loaded_names(stmt):
                yield stmt
            if isinstance(stmt, ast.If):
                taken = set(self.walk.taken.get(stmt, {0: True, 1: False}).values())
                yield from self._statements(stmt.body if True in taken else [])
                yield from self._statements(stmt.orelse if False in taken else [])

    def _block(self, body: Sequence[ast.stmt], mask: Mask, start: int) -> Lines:
        lines: Lines = []
        previous_end = start
        for stmt in body:
            above = self.author.init_file.lines[previous_end : first_line(stmt) - 1]
            previous_end = stmt.end_lineno or previous_end
            written = self._with_definitions(self._statement(stmt, mask))
            if written:
                lines += [s.strip() for s in above if not s.strip() or s.lstrip().startswith("#")]
                lines += written
            elif any(not s.strip() for s in above):
                lines.append("")
            if stmt is self._last_setting and self._depth == 0:
                lines += self._rest(mask)
        return lines

    def _with_definitions(self, lines: Lines) -> Lines:
        """The local functions that a statement needs stand before it."""
        found = self.printer.definitions if lines else {}
        before = [row for rows_ in found.values() for row in rows_]
        self.printer.definitions = {}
        early = self._early(lines) if lines and self._undefined else []
        return [*early, *before, *([""] if before else []), *lines]

    def _early(self, lines: Lines) -> Lines:
        """The author's definitions of local names that what a parent's constructor made is written with: it stands
        before them."""
        before: Lines = []
        for name in sorted(loaded_names(parsed(lines)) & set(self._undefined)):
            stmt = self.author.local_definitions().get(name)
            if stmt is not None and not loaded_names(stmt) & {*self._undefined, self.author.self_name}:
                before += self._local(stmt)
                self._moved.add(stmt)
        return before

    def _nested(self, body: Sequence[ast.stmt], mask: Mask, start: int) -> Lines:
        self._depth += 1
        lines = tidy(self._block(body, mask, start))
        self._depth -= 1
        return lines

    def _statement(self, stmt: ast.stmt, mask: Mask) -> Lines:
        if not mask:
            return []
        self._current = stmt
        self.scope.placed |= self.author.set_before(stmt.lineno) - self._unsaid  # what text reads of them will be kept
        if stmt in self.kept:
            self._done |= {(name, i) for name, _ in self.walk.settings_in(stmt) for i in mask}
            return self.kept[stmt]
        if is_docstring(stmt, self.author.init):
            return self._verbatim(stmt)
        if self._removes(stmt):  # what it takes away isn't made in the first place
            return []
        call = only_call(stmt)
        if call is not None and isinstance(call.func, ast.Attribute) and call.func.attr == "__init__":
            return [*self._base_call(stmt), *self._opaque(stmt, mask), *self._from_parent(mask)]
        if isinstance(stmt, ast.If):
            return self._if(stmt, mask)
        found = self.walk.settings_in(stmt)
        if found:
            lines = [line for name, value in found for line in self._setting(stmt, name, value, mask)]
            return self._side_by_side(stmt, found, lines)
        if isinstance(stmt, ast.Assign | ast.AnnAssign) and stored_names(stmt):
            return [*self._opaque(stmt, mask), *(self._local(stmt) if stmt not in self._moved else [])]
        if isinstance(stmt, ast.Pass | ast.Return | ast.Import | ast.ImportFrom | ast.Global | ast.FunctionDef):
            return []
        if isinstance(stmt, ast.AugAssign) and isinstance(stmt.target, ast.Name):
            return []
        placed = self._opaque(stmt, mask)
        if placed or self._makes(stmt):
            self._leave_out(stmt)
            return placed
        return self._effect(stmt)

    @property
    def _unsaid(self) -> set[str]:
        """Attributes of which nobody knows what they are now: they aren't written."""
        return self.context.doubtful | self.context.waiting

    def _leave_out(self, stmt: ast.stmt) -> None:
        """Tells what a statement that isn't there any more did beside making layers: first values and checks."""
        for node in ast.walk(stmt):
            if isinstance(node, ast.Expr | ast.Assign) and starts_weights(node, self.author.self_name):
                self.tell("__init__", node)
            elif isinstance(node, ast.Assert) or (isinstance(node, ast.If) and only_raises(node)):
                words = loaded_names(node) & set(self.author.parameters)
                if not words or words & set(self.scope.words):  # else it goes with its arguments, which are told
                    self.tell("__init__", node)

    def tell_dropped(self, parameters: Set[str], written: ast.AST) -> None:
        """Tells branches that aren't there any more though an argument stays that chose them: a flag, or a word."""
        gone: set[ast.AST] = set()
        for stmt in self._dropped:
            other = stmt.orelse if True in self.walk.taken[stmt].values() else stmt.body
            gone.update(n for s in other for n in ast.walk(s))
            if self._chose(stmt.test, parameters):
                self.tell(f"__init__'s other branch of 'if {ast.unparse(stmt.test)}'", stmt)
        left = Counter(ast.unparse(c.test) for c in map(conditional, ast.walk(written)) if c is not None)
        assert self.author.init is not None
        for choice in (c for n in ast.walk(self.author.init) if n not in gone and (c := conditional(n)) is not None):
            test = ast.unparse(choice.test)
            left[test] -= 1
            if left[test] < 0 and self._chose(choice.test, parameters):
                self.untold[f"{self.author.cls.__qualname__}.__init__'s other side of '... if {test} else ...'"] = None

    def _chose(self, test: ast.expr, parameters: Set[str]) -> bool:
        """Whether an argument that stays is a flag, or a word, that a condition asks for."""
        asked = loaded_names(test) & parameters & set(self.author.parameters)
        values = [b.arguments.get(n) for n in asked for b in self.context.births if b is not None]
        return any(isinstance(v, bool | str) or (type(v) is int and v in (0, 1)) for v in values)

    def _if(self, stmt: ast.If, mask: Mask) -> Lines:
        if only_raises(stmt):
            return self._check(stmt, mask)
        taken = self.walk.taken.get(stmt)
        if taken is None:
            placed = self._opaque(stmt, mask)
            if not placed and not self._makes(stmt) and not self._sets_inside(stmt):
                return self._effect(stmt)
            self._leave_out(stmt)
            return placed
        yes, no = (frozenset(i for i in mask if taken[i] is t) for t in (True, False))
        if not yes or not no:
            chosen = stmt.body if yes else stmt.orelse
            kept = self._verbatim_condition(stmt, mask)
            if kept is not None:
                return kept
            if stmt.orelse or not yes:
                self._dropped.append(stmt)
            self._depth_resolved += 1
            lines = self._block(chosen, mask, chosen[0].lineno - 1) if chosen else []
            self._depth_resolved -= 1
            return lines
        return self._branches(stmt, yes, no)

    def _check(self, stmt: ast.If, mask: Mask) -> Lines:
        """A check of arguments stays if they are still arguments for another reason, and all instances pass it."""
        tests = [n.test for n in ast.walk(stmt) if isinstance(n, ast.If)]
        passed = proved(lambda: not any(bool(self.scope.value(t, i)) for t in tests for i in mask))
        words = loaded_names(stmt) & (set(self.author.parameters) | self.author.stored)
        if passed and words and words <= self.used:
            return self._effect(stmt)
        self._leave_out(stmt)
        return []

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
            return [f"if not ({test}):", *indented(other)]
        lines = [f"if {test}:", *indented(body)]
        if len(stmt.orelse) == 1 and isinstance(stmt.orelse[0], ast.If) and other and other[0].startswith("if "):
            return [*lines, "el" + other[0], *other[1:]]
        return [*lines, "else:", *indented(other)] if other else lines

    def _setting(self, stmt: ast.stmt, name: str, value: ast.expr | None, mask: Mask) -> Lines:
        final = frozenset(i for i in mask if self.walk.final.get((name, i)) is stmt and name in self.context.records[i])
        final -= {i for i in final if (name, i) in self._done and self.context.records[i][name].kind != PLAIN}
        written = bool(final) and all(self.context.records[i][name].term is not None for i in final)
        if written and self.author.sets_once(name) and name not in self._unsaid:
            self.scope.placed.add(name)  # if text reads it, it will be kept
        final -= {i for i in final if (name, i) in self._done}
        if not final or not self.context.wanted(name):
            return []
        if name in self.context.verbatim or self._has_no_text(name, final):
            lines = self._made_again(stmt, name, value, sorted(final))
            if lines or name in self.context.more - self.context.keep:  # what code reads has to be there
                self._done |= {(name, i) for i in final}
                return lines
        if any(holds_layers(self.context.records[i][name].term) for i in final):
            held = [(i, vars(self.context.live[i])[name]) for i in sorted(final)]
            if value is None or self.hands(value, held) is not value or self._keeping.keys() - self.kept:
                return []  # it is filled later: what it holds in the end is written after the layers
            self._done |= {(name, i) for i in final}
            return self._verbatim(stmt)
        return [*self._base_first(), *self._attribute(name, final, stmt, value)]

    def _side_by_side(self, stmt: ast.stmt, found: Settings, lines: Lines) -> Lines:
        """``self.a, self.b = x, y`` in one line as it was, where that is short enough; ``self.a = self.b = x`` too."""
        owner = self.author.self_name
        texts = [(f"{owner}.{name}", f"{owner}.{name} = ") for name, _ in found]
        if isinstance(stmt, ast.Assign) and len(stmt.targets) == len(lines) == len(found) > 1:
            same = {line.removeprefix(start) for line, (_, start) in zip(lines, texts, strict=True)}
            if len(same) == 1:
                return self._like_author(["".join(start for _, start in texts) + same.pop()], stmt)
        if len(found) < 2 or len(lines) != len(found) or not self._told_apart(stmt, lines, [t for _, t in texts]):
            return lines
        values = ", ".join(line.removeprefix(start) for line, (_, start) in zip(lines, texts, strict=True))
        joined = f"{', '.join(t for t, _ in texts)} = {values}"
        if same_code(joined, self.author.init_file.segment(stmt)):
            return self._verbatim(stmt)
        return self._like_author([joined] if len(joined) <= self._width else lines, stmt, whole=True)

    @staticmethod
    def _told_apart(stmt: ast.stmt, lines: Lines, starts: Sequence[str]) -> bool:
        """Whether each line gives one of the targets of the statement its value, in their order."""
        several = isinstance(stmt, ast.Assign) and isinstance(stmt.targets[0], ast.Tuple)
        return several and all(line.startswith(start) for line, start in zip(lines, starts, strict=True))

    def _opaque(self, stmt: ast.stmt, mask: Mask) -> Lines:
        return self._all_unfollowed(self._opaque_attributes((stmt.lineno, stmt.end_lineno or 0), mask), mask)

    def _from_parent(self, mask: Mask) -> Lines:
        """Parameters, buffers and plain attributes that the constructor of an author's parent makes."""
        home = self.author.home
        if home is None or author_init(home.__mro__[1]) is None:
            return []
        followed = {n for n, _ in self.walk.final}
        names = [n for n in self.context.attributes() if n not in followed]
        kinds = {n: next(r[n].kind for r in self.context.records if n in r) for n in names}
        return self._all_unfollowed([n for n in names if kinds[n] != CHILD], mask)

    def _makes(self, stmt: ast.stmt) -> bool:
        """Whether the statement only served to make modules: a loop over widths, a list that grows."""
        span = (stmt.lineno, stmt.end_lineno or 0)
        for path, birth in zip(self.context.paths, self.context.births, strict=True):
            if birth is None:
                continue
            prefix = f"{path}." if path else ""
            for other, made in self.context.tree.births.items():
                if other.startswith(prefix) and other != path:
                    line = made.line_in(birth.module)
                    if line is not None and span[0] <= line <= span[1]:
                        return True
        return False

    def rewrites(self, stmt: ast.stmt) -> bool:
        """Whether a statement makes layers or sets attributes, so that it isn't written as it is."""
        return self._makes(stmt) or any(self.walk.settings_in(n) for n in ast.walk(stmt))

    def _local(self, stmt: ast.stmt) -> Lines:
        names = stored_names(stmt)
        if not names <= self.locals:
            return []
        self.scope.words.update({n: self._undefined.pop(n) for n in names & set(self._undefined)})
        return self._verbatim(stmt)

    def hands(self, expr: ast.expr, wanted: Sequence[tuple[int, object]]) -> ast.expr | None:
        """An expression of the author's if it makes these objects (instance, object) where it stands, perhaps after
        statements of his that then stay; with numbers for names that are gone."""
        found = self._preparation(self._current, expr, wanted) if wanted else None
        if found is None or any(self._makes(s) for s in found.statements):
            return None
        wished = self._wished(found.words | set(found.constants))
        if found.words - wished:
            return None
        constants = {n: v for n, v in found.constants.items() if n not in wished}
        for i, s in enumerate(found.statements):
            self._keeping.setdefault(s, [*(self._constants(constants) if i == 0 else []), *self._filled(s, constants)])
        return with_values(expr, dotted(constants) if found.statements else constants)

    def _wished(self, names: Set[str]) -> set[str]:
        """Those of the author's parameters among the names that the text can't use yet and may from now on."""
        wished = set(names) & set(self.scope.hidden) & set(self.author.parameters)
        self.printer.wishes |= wished
        return wished if len(self.context.paths) > 1 else set()

    @property
    def keeps_more(self) -> bool:
        """Whether statements have to stay that this pass hadn't."""
        return set(self._keeping) != set(self.kept)

    def _has_no_text(self, name: str, mask: Mask) -> bool:
        """Whether nothing but the author's expression can give a plain attribute."""
        slots = {i: self.context.records[i][name] for i in mask}
        opaque = [i for i, slot in slots.items() if slot.kind == PLAIN and slot.term is None]
        return any(self.context.term_of(vars(self.context.live[i]).get(name), tensors=True) is None for i in opaque)

    def _made_again(self, stmt: ast.stmt, name: str, value: ast.expr | None, indices: Sequence[int]) -> Lines:
        """The author's statement for a value that has no literal: it makes the value again, perhaps after others."""
        names = loaded_names(stmt)
        known = set(self.scope.words) | self._wished(names) | self.locals | {self.author.self_name} | stored_names(stmt)
        free = names - known
        own = (set(self.author.parameters) | self.author.stored) & free
        there = all(n in self.author.globals or hasattr(builtins, n) for n in free)
        if any(self._foreign(n) for n in free):
            return []
        if own or not there or name not in self.context.verbatim:
            held = [(i, vars(self.context.live[i])[name]) for i in indices]
            found = self.hands(value, held) if value is not None else None
            if found is not value:
                return [] if found is None else self._assignment(name, PLAIN, ast.unparse(found), stmt)
        self.scope.placed.add(name)
        return self._verbatim(stmt)

    def _effect(self, stmt: ast.stmt) -> Lines:
        """Statements such as weight initialisation stay if every name in them still means something."""
        called = [n.func for n in ast.walk(stmt) if isinstance(n, ast.Call)]
        if any(computes_weights(self.printer.global_value(f)) for f in called):
            return []  # ``weight_norm(self.conv)``: what it did is part of the weights now
        if self._depth_resolved and warns(stmt):
            return []
        again = changed_attributes(stmt, self.author.self_name)
        if (again and all(self.written_as_it_ends(name) for name in again)) or self._fills(stmt):
            return []
        if any(self.written_as_it_ends(name) for name in changed_by_methods(self.context, stmt)):
            return []
        if not (lines := self._said_again(stmt)):
            self._leave_out(stmt)
        text = without_dead_branches("\n".join(lines), self._absent)
        return rows(text.rstrip("\n")) if text else []

    def _said_again(self, stmt: ast.stmt) -> Lines:
        """A statement with names and numbers that are still right; none where it can't have them."""
        inside = stored_names(stmt) | {n.arg for n in ast.walk(stmt) if isinstance(n, ast.arg)}
        known = set(self.scope.words) | self.locals | inside | {self.author.self_name, "super"}
        gone = (set(self.author.parameters) | self.author.stored) - known
        names = loaded_names(stmt)
        free = names - known
        there = all(n in self.author.globals or hasattr(builtins, n) for n in free - gone)
        if self._hands_on(stmt) or not there or self._grows(stmt) or any(self._foreign(n) for n in free):
            return []
        lines = self._without_names(stmt, free & gone) if free & gone else self._verbatim(stmt)
        local = self.author.stored - set(self.author.parameters) - self.locals - inside
        filled = {n for n in names & local if any(isinstance(t, Box) for t in self.scope.words.get(n, ()))}
        if (changed(stmt) & local) | filled:
            return []  # what it changes is there as it was in the end
        return [] if resizes(self.scope, stmt, range(len(self.context.paths))) else lines

    def _without_names(self, stmt: ast.stmt, gone: Set[str]) -> Lines:
        """An initialisation with what names that are gone stand for: how they are computed, or numbers."""
        if not initialises(stmt, self.author.self_name):
            return []
        self._wished(gone)
        try:
            plain, text = (self._with_values(stmt, gone, around) for around in ("{}", "({})"))
        except LookupError:
            return []
        return dedented(plain if same_code(plain, text) else text, stmt.col_offset)

    def _with_values(self, node: ast.expr | ast.stmt, gone: Set[str], around: str) -> str:
        parts: list[tuple[Span, str]] = []
        todo: list[ast.AST] = [node]
        while todo:
            name = todo.pop()
            of_options = isinstance(name, ast.Attribute) and isinstance(name.value, ast.Name) and name.value.id in gone
            if of_options and isinstance(name, ast.Attribute) and (now := self.number_now(name, 0)) is not None:
                parts.append((span_of(name), literal(now)))
                continue
            if not isinstance(name, ast.Name) or name.id not in gone:
                todo += ast.iter_child_nodes(name)
                continue
            definition, now = self.author.local_definitions().get(name.id), self.number_now(name, 0)
            if now is None and definition is not None:
                unsaid = (set(self.author.parameters) | self.author.stored) - set(self.scope.words) - self.locals
                text = self._with_values(definition.value, loaded_names(definition.value) & unsaid, around)
                parts.append((span_of(name), around.replace("{}", text)))
            elif now is None or any(self.number_now(name, i) != now for i in range(len(self.context.paths))):
                raise LookupError(name.id)
            else:
                parts.append((span_of(name), literal(now)))
        return replaced(self.author.init_file, span_of(node), parts)

    def written_as_it_ends(self, name: str) -> bool:
        """Whether an attribute is written with the value that it had when the author's constructor returned."""
        slots = [r[name] for r in self.context.records if name in r]
        made_again = name in self.context.verbatim
        return bool(slots) and not made_again and all(s.kind == PLAIN and s.term is not None for s in slots)

    def _fills(self, stmt: ast.stmt) -> bool:
        """Whether a statement puts something, None perhaps, into a container of layers, which is written filled."""
        assigned = [t for n in ast.walk(stmt) if isinstance(n, ast.Assign) for t in n.targets]
        targets = [t.value for t in assigned if isinstance(t, ast.Subscript)]
        names = [own_attribute(t, self.author.self_name) for t in targets]
        return any(r[n].kind == CHILD for r in self.context.records for n in names if n in r)

    def _removes(self, stmt: ast.stmt) -> bool:
        """Whether a statement only takes away parts of the module; values that are made again need theirs."""
        read = {n.attr for n in ast.walk(stmt) if isinstance(n, ast.Attribute)}
        return only_removes(stmt, self.author.self_name) and not read & self.context.verbatim

    def _absent(self, kind: ast.expr) -> bool:
        """Whether an expression names an author's class of which the network has no instance."""
        value = self.author.globals.get(kind.id) if isinstance(kind, ast.Name) else None
        if not isinstance(value, type) or not issubclass(value, nn.Module) or not is_authored(value):
            return False
        return not any(issubclass(c, value) for c in (*self.context.tree.instances, *self.context.tree.imported))

    def _hands_on(self, stmt: ast.stmt) -> bool:
        """Whether a statement assigns names that the constructor reads later, or that it reads itself."""
        kinds = (ast.Assign, ast.AugAssign, ast.AnnAssign)
        inner = [n for n in ast.walk(stmt) if isinstance(n, kinds)]
        assigned = set().union(*(stored_names(n) for n in inner))
        own = any(isinstance(n, ast.AugAssign) or stored_names(n) & loaded_names(n) for n in inner if stored_names(n))
        later = [s for s in self.author.init.body if s.lineno > (stmt.end_lineno or 0)] if self.author.init else []
        return own or bool(assigned & set().union(*map(loaded_names, later)))

    def _grows(self, stmt: ast.stmt) -> bool:
        """Whether a statement adds to the module in a way that was not followed."""
        settings = [s for n in ast.walk(stmt) for s in self.walk.settings_in(n)]
        calls = {n.func.attr for n in ast.walk(stmt) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)}
        makers = {"add_module", "register_module", "register_buffer", "register_parameter"}
        return bool(settings) or bool(calls & makers)

    def _foreign(self, name: str) -> bool:
        """Whether a name is a function of a package that generated code must not import (its telemetry, say)."""
        value = self.author.globals.get(name)
        return isinstance(value, types.FunctionType) and unwelcome(value.__module__)
