"""Attributes of the written module: children, parameters, buffers, plain values, and families of children."""

from __future__ import annotations

import ast
import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ...errors import UnsavedError, ValueTextError
from ...places import Site
from ...run import SAVED, SMALL, UNSAVED, is_blank, unsaved_buffers
from ..author import evaluate, proved
from ..live import (
    BOXES,
    BUFFER,
    CHILD,
    PARAMETER,
    Alias,
    Box,
    Call,
    Display,
    Given,
    Hole,
    Item,
    Lit,
    Term,
    Text,
    holds_layers,
    is_plain,
    joined,
    literal,
    tensor_call,
    value_of,
)
from ..text import (
    STEP,
    Group,
    Lines,
    SourceFile,
    flat,
    is_usable_name,
    lines_of,
    loaded_names,
    numbered,
    rows,
    same_code,
    spliced,
    with_values,
)
from .buffer_statements import dotted
from .followed import counts_channels
from .printer import Code
from .sequences import Sequences
from .starts import Start, Wanted, elements_of, start_of, with_passes
from .tensors import creator, gives_something, gives_tensor, size_hints, starts_alike
from .unify import unify
from .walk import Mask


class Members(Sequences):
    """Adds assignments."""

    def _attribute(self, name: str, mask: Mask, stmt: ast.stmt | None, value: ast.expr | None) -> Lines:
        """``self.name = ...`` for the instances of the mask."""
        earlier = self._earlier(name, mask)
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
            return [*earlier, *lines, *self._like_author(self._assignment(name, kind, code, stmt), stmt)]
        if isinstance(term, Hole) and any(holds_layers(v) for v in term.values):
            self.printer.active = active
            return [*earlier, *self._assignment(name, kind, self._those_there(name, mask), stmt)]
        if isinstance(term, Box) and issubclass(term.fn, nn.ModuleList) and term.has_names:
            lines = self._assignment(name, kind, self.printer.code(replace(term, items=())), stmt)
            lines += [line for item in term.items for line in self._added(name, item)]
            self.printer.active = active
            return [*earlier, *lines]
        if isinstance(term, Call) and term.fn in (nn.ParameterList, nn.ParameterDict):
            term = self._parameters_started(name, term, value, mask, stmt)
        before, found = self._tensor(name, kind, term, value, mask, stmt)
        code = found or self.printer.code(term, hint)
        if kind == CHILD and isinstance(value, ast.Call) and self.printer.is_around(term, value):
            self.tell(f"{name}'s start", value)
        self.printer.active = active
        return [*earlier, *before, *self._like_author(self._assignment(name, kind, code, stmt), stmt)]

    def _added(self, name: str, item: Item) -> Lines:
        """What gives a list of layers one under a name, which no call of its class can say."""
        added = (literal(item.name), self.printer.item(item))
        return lines_of(Group(f"{self.author.self_name}.{name}.add_module(", added, ")"), "", "", self._width)

    def _earlier(self, name: str, mask: Mask) -> Lines:
        """What the author set before an attribute and then once more behind it: its place in the state_dict is here."""
        lines: Lines = []
        for other in self.context.attributes():
            if other == name or not mask or not all(self._stands_before(other, name, i) for i in mask):
                continue
            stmts = {self.walk.final[other, i] for i in mask if (other, i) in self.walk.final}
            values = [s.value for s in self.walk.settings if s.stmt in stmts and s.attribute == other]
            later = not values or any(v is None or loaded_names(v) & self.author.stored for v in values)
            if later or self._keeps_place(other):
                place = self._place_of(other, self.context.records[min(mask)][other].kind)
                lines += [] if place in self._ready else [place]
                self._ready.add(place)
            else:
                only = stmts.pop() if len(stmts) == 1 else None
                lines += self._attribute(other, mask, only, values[0] if only is not None else None)
        return lines

    def _keeps_place(self, name: str) -> bool:
        """Whether the author registers None under the name first."""
        mine = [s for s in self.walk.settings if s.attribute == name and isinstance(s.stmt, ast.Expr)]
        return any(isinstance(s.value, ast.Constant) and s.value.value is None for s in mine)

    def _place_of(self, name: str, kind: str) -> str:
        """Keeps the place for what needs names that the constructor only makes later."""
        register = {BUFFER: "register_buffer", PARAMETER: "register_parameter"}.get(kind, "register_module")
        return f"{self.author.self_name}.{register}({literal(name)}, None)"

    def _stands_before(self, other: str, name: str, index: int) -> bool:
        """Whether a state_dict, or a container that runs in order, has ``other``, which isn't there yet, before
        ``name``."""
        record = self.context.records[index]
        if other not in record or name not in record or (other, index) in self._done:
            return False
        names = list(record)
        if record[other].kind != record[name].kind or names.index(other) > names.index(name):
            return False
        kind = record[name].kind
        ordered = (other, index) in self.walk.final or isinstance(self.context.live[index], BOXES)
        listed = kind == CHILD and (ordered or all(self._has_state(n, index) for n in (other, name)))
        return listed or kind in (PARAMETER, BUFFER)

    def _has_state(self, name: str, index: int) -> bool:
        child = self.context.live[index]._modules.get(name)
        return child is not None and any(True for _ in child.state_dict())

    def _term(self, name: str, mask: Mask) -> Term:
        if (name, mask) not in self._terms:
            column: dict[int, Term] = {}
            for i in (i for i in sorted(mask) if name in self.context.records[i]):
                slot = self.context.records[i][name]
                held = vars(self.context.live[i]).get(name)
                term = slot.term if slot.term is not None else self.context.term_of(held, tensors=True)
                if term is None:
                    raise self._unwritten(name, slot.why)
                column[i] = term
            return self._joined((name, mask), (name,), column)
        return self._terms[name, mask]

    def _joined(self, key: tuple[str, Mask], where: tuple[str, ...], terms: Mapping[int, Term]) -> Term:
        """What says the terms of these instances in all of them; the same wherever the key is."""
        if key not in self._terms:
            self._terms[key] = unify([terms.get(i) for i in range(len(self.context.paths))], where, self.context)
        return self._terms[key]

    def _those_there(self, name: str, mask: Mask) -> Code:
        """A list of layers that isn't equally long in every instance: those of them that there are, in one order."""
        owner, order = self.author.self_name, list[str]()
        lists = {i: vars(self.context.live[i])[name] for i in mask}
        terms = [self.context.records[i][name].term for i in sorted(mask)]
        for term in terms:
            for item in term.items if isinstance(term, Display) and term.kind == "list" else ():
                target = item.target.removeprefix("self.") if isinstance(item, Alias) else ""
                order += [target] if target not in order else []
        for i, held in lists.items():
            there = [getattr(self.context.live[i], n) for n in order if hasattr(self.context.live[i], n)]
            if not isinstance(held, list) or list(map(id, held)) != list(map(id, there)):
                reason = "its layers are other ones in every instance; keep them in a ModuleList or ModuleDict"
                raise self._unwritten(name, reason)
        names = ", ".join(map(literal, order))
        return f"[getattr({owner}, name) for name in ({names}) if hasattr({owner}, name)]"

    def _unwritten(self, name: str, reason: str) -> ValueTextError:
        return ValueTextError(f"self.{name} can't be written: {reason}", site=self._place(name))

    def _place(self, name: str) -> Site:
        stmt = next((s.stmt for s in self.walk.settings if s.attribute == name), self.author.node)
        return self.author.init_file.at(stmt)

    def _tensor(
        self, name: str, kind: str, term: Term, value: ast.expr | None, mask: Mask, stmt: ast.stmt | None
    ) -> tuple[Lines, Code | None]:
        """Code for a parameter or buffer in the author's words, as far as they hold, and what stands before it."""
        if kind not in (PARAMETER, BUFFER) or not isinstance(term, Call | Hole) or value is None:
            return self._unsaved(name, kind, mask), None
        value, text = self._without_nothing(value)
        handed = {n for n, v in self.scope.hidden.items() if any(isinstance(t, Given) for t in v)}
        self.printer.wishes |= loaded_names(value) & handed & set(self.author.parameters)
        live = [(i, self.context.tree.tensor(self.context.paths[i], name)) for i in sorted(mask)]
        exact = name in unsaved_buffers(self.context.live[min(mask)])
        if gives_tensor(self.scope, value, [(i, t, exact) for i, t in live]):
            return [], text
        made = term.args[0].value if kind == PARAMETER and isinstance(term, Call) else term
        ready = self._prepared(stmt, value, text, live) if kind == BUFFER else None
        if ready is not None:
            return ready
        there = [(i, t, exact) for i, t in live if t is not None]
        file = self.author.init_file if text == self.author.init_file.segment(value) else None
        if there and (started := self._started(name, value, there, file)) is not None:
            return [], started
        if exact:
            if all(t is None or t.numel() <= SMALL or is_blank(t) for _, t in live):
                return [], None
            # a later statement may fill it; the written model is compared with the live one
            if gives_tensor(self.scope, value, [(i, t, False) for i, t in live]):
                return [], text
            if any(t is None for _, t in live) or isinstance(value, ast.Constant):
                if gives_something(self.scope, value, mask):
                    return [], text
                raise UnsavedError(UNSAVED.format(name), site=self._place(name), help=SAVED)
            made = term = self._sizes(name, mask)
        if not starts_alike(value):
            self.tell(f"{name}'s start", value)
        if not isinstance(made, Call):
            return [], None
        hints = size_hints(self.author, value, sum(a.name.isdecimal() for a in made.args))
        return [], self.printer.sized(term, made, getattr(torch, creator(value)), hints)  # type: ignore[arg-type]

    def _started(self, name: str, value: ast.expr, wanted: Wanted, file: SourceFile | None) -> str | None:
        """The author's expression with the sizes that its tensors have now."""
        births = {i: b for i, b in enumerate(self.context.births) if b is not None}
        if not births.keys() >= {i for i, _, _ in wanted}:
            return None
        names = {i: {**b.arguments, **b.locals} for i, b in births.items()}
        found = start_of(self.scope, value, names, wanted, self.number_now)
        if found is None:
            return None
        texts = []
        for n, (expr, values) in enumerate(found.numbers):
            column = {i: Lit(number) for (i, _, _), number in zip(wanted, values, strict=True)}
            term = self._joined((f"{name}[{n}] = {values}", frozenset(column)), (name, str(n)), column)
            texts.append(flat(self.printer.code(term, expr, direct=False)))
        return found.with_texts(texts, file)

    def number_now(self, expr: ast.expr, index: int) -> Any:
        """What an expression for a number that sizes nothing where it stands gives now; None where nobody knows."""
        vector = self.said.get(ast.unparse(expr))
        if vector is not None and (term := vector[index]) is not None:
            return value_of(term)
        if not self.said or counts_channels(self.context, [expr], self.said):
            return None
        if isinstance(expr, ast.Name) and expr.id in self.author.local_definitions():
            return None
        birth = self.context.births[index]
        given = {n: v for n, v in birth.arguments.items() if n not in self.author.stored} if birth is not None else {}
        of_options = isinstance(expr, ast.Attribute)  # that are gone
        own = self.scope.value
        value = proved(lambda: evaluate(expr, given, {}, set()) if of_options else own(expr, index, hidden=True))
        return value if is_plain(value) else None

    def _parameters_started(
        self, name: str, term: Call, value: ast.expr | None, mask: Mask, stmt: ast.stmt | None
    ) -> Call:
        """A list or dict of parameters as the author's expressions for them make them."""
        held, init = term.args[0].value, self.author.init
        if init is None or not isinstance(held, Display) or not held.items:
            return term
        exprs, birth = elements_of(init, f"{self.author.self_name}.{name}", value), self.context.births[min(mask)]
        exprs = exprs * len(held.items) if len(exprs) == 1 else exprs
        if len(exprs) == len(held.items) and birth is not None and len(self.context.paths) == 1:
            live = self.context.live[0]._modules[name]
            tensors = [getattr(live, n) for n in live._parameters] if live is not None else []
            names = {0: with_passes(self.scope, value, {**birth.arguments, **birth.locals})}
            pairs = list(zip(exprs, tensors, strict=False))
            found = [start_of(self.scope, e, names, [(0, t, False)], self.number_now) for e, t in pairs]
            if len(found) == len(exprs) and all(found):
                texts = tuple(self._with_numbers(s) for s in found if s is not None)
                args = (replace(term.args[0], value=replace(held, items=texts)), *term.args[1:])
                return replace(term, args=args)
        if not exprs or not all(map(starts_alike, exprs)):
            self.tell(f"{name}'s start", value or stmt or init)
        return term

    def _with_numbers(self, start: Start) -> Text:
        texts = [flat(self.printer.code(Lit(v[0]), e, direct=False)) for e, v in start.numbers]
        return Text(start.with_texts(texts, self.author.init_file), self.author.init_file.name)

    def _sizes(self, name: str, mask: Mask) -> Term:
        """Zeros as large as a buffer."""
        tree = self.context.tree
        tensors = {i: tree.tensor(self.context.paths[i], name) for i in sorted(mask)}
        made = {i: tensor_call(t, torch.zeros, tree.dtype) for i, t in tensors.items() if t is not None}
        return self._joined((f"{name} sizes", mask), (name,), made)

    def _unsaved(self, name: str, kind: str, mask: Mask) -> Lines:
        """Refuses a large buffer that nothing in the constructor gives and the state_dict doesn't have."""
        live = [self.context.live[i] for i in sorted(mask)] if kind == BUFFER else []
        tensors = [m._buffers[name] for m in live if name in unsaved_buffers(m) - self.context.tree.changing]
        if any(t is not None and t.numel() > SMALL and not is_blank(t) for t in tensors):
            raise UnsavedError(UNSAVED.format(name), site=self._place(name), help=SAVED)
        return []

    def _without_nothing(self, value: ast.expr) -> tuple[ast.expr, str]:
        """The expression, and its text, without ``device=device`` and ``**kwargs`` where that says nothing."""
        calls = [n for n in ast.walk(value) if isinstance(n, ast.Call)]
        local = self.author.parameters.keys() | self.author.stored
        silent = {
            ast.dump(k)
            for c in calls
            for k in c.keywords
            if isinstance(k.value, ast.Name) and k.value.id in local and self.context.nothing(k.value.id)
        }
        if not silent:
            return value, self.author.init_file.segment(value)
        shorter = copy.deepcopy(value)
        for call in [n for n in ast.walk(shorter) if isinstance(n, ast.Call)]:
            call.keywords = [k for k in call.keywords if ast.dump(k) not in silent]
        return shorter, ast.unparse(shorter)

    def _prepared(
        self, stmt: ast.stmt | None, value: ast.expr, text: str, live: Sequence[tuple[int, torch.Tensor | None]]
    ) -> tuple[Lines, Code] | None:
        """The author's statements that compute the buffer, where they still do, and his expression."""
        found = self._preparation(stmt, value, live)
        if found is None:
            return None
        if found.words:
            self.printer.wishes |= found.words & set(self.scope.hidden)
            return None
        lines = self._constants({n: v for n, v in found.constants.items() if n not in self._ready})
        self._ready |= set(found.constants)
        for s in found.statements:
            if s not in self._ready_statements:
                self._ready_statements.add(s)
                lines += self._filled(s, found.constants)
        said = with_values(value, dotted(found.constants))
        return lines, text if said is value else ast.unparse(said)

    def _assignment(self, name: str, kind: str, code: Code, stmt: ast.stmt | None) -> Lines:
        owner = self.author.self_name
        if kind == BUFFER:
            tensors = [self.context.live[i] for i in range(len(self.context.paths)) if name in self.context.records[i]]
            extra = ("persistent=False",) if name in unsaved_buffers(tensors[0]) else ()
            given = (literal(name), code, *extra)
            return lines_of(Group(f"{owner}.register_buffer(", given, ")"), "", "", self._width)
        if kind == PARAMETER and flat(code) == "None":
            return [f"{owner}.register_parameter({literal(name)}, None)"]
        if not is_usable_name(name):
            return lines_of(Group(_set_by_name(owner, kind), (literal(name), code), ")"), "", "", self._width)
        if kind == CHILD and flat(code) == "None" and not isinstance(stmt, ast.Assign):
            return [f"{owner}.register_module({literal(name)}, None)"]
        note = f": {self.author.init_file.segment(stmt.annotation)}" if isinstance(stmt, ast.AnnAssign) else ""
        return lines_of(code, f"{owner}.{name}{note} = ", "", self._width)

    def _like_author(self, lines: Lines, stmt: ast.stmt | None, whole: bool = False) -> Lines:
        """The author's own lines where the new ones mean the same; else the author's comment is carried over.
        ``whole``: the lines are all that comes of a statement with several targets."""
        if stmt is None or (isinstance(stmt, ast.Assign) and isinstance(stmt.targets[0], ast.Tuple) and not whole):
            return lines
        text = "\n".join(lines)
        if same_code(text, self.author.init_file.segment(stmt)):
            return self._verbatim(stmt)
        own = self._with_comments(text, stmt)
        if own is not None:
            return own
        comment = self.author.init_file.comments.get(stmt.end_lineno or 0)
        if comment is not None and comment[0] >= (stmt.end_col_offset or 0):
            lines = [*lines[:-1], f"{lines[-1]}  {comment[1]}"]
        return lines

    def _with_comments(self, text: str, stmt: ast.stmt) -> Lines | None:
        """The author's lines with what is new in them, where they hold comments that the new text hasn't."""
        inside = range(stmt.lineno, stmt.end_lineno or 0)
        said = [c for n, (_, c) in self.author.init_file.comments.items() if n in inside]
        if all(c in text for c in said):
            return None
        found = spliced(self.author.init_file, stmt, text)
        better = found is not None and sum(c in found for c in said) > sum(c in text for c in said)
        return rows(found) if found is not None and better else None

    def _all_unfollowed(self, names: Sequence[str], mask: Mask) -> Lines:
        children = [n for n in names if any(n in r and r[n].kind == CHILD for r in self.context.records)]
        open_ = [n for n in children if any((n, i) not in self._done and n in self.context.records[i] for i in mask)]
        some = [n for n in open_ if any(n not in self.context.records[i] for i in mask)]
        handed = [n for n in open_ if any(self._handed(n, i) for i in mask)]
        torn = self.context.torn & set(open_)
        family = self._family(open_, mask) if len(some) > 1 or len(handed) > 1 or torn else []
        family = [*(self._base_first() if open_ else []), *family]
        return family + [line for n in names for line in self._unfollowed(n, mask)]

    def _handed(self, name: str, index: int) -> bool:
        path = self.context.paths[index]
        return name in self.context.records[index] and self.context.passed_in(joined(path, name))

    def _family(self, names: Sequence[str], mask: Mask) -> Lines:
        """Children that a loop makes, not equally many everywhere: the constructor is given them and adds them."""
        mine = {i: [n for n in self.context.records[i] if n in names] for i in mask}
        prefix, start = numbered(next(iter(mine.values())))
        listed = all(ns == [f"{prefix}{start + k}" for k in range(len(ns))] for ns in mine.values()) and prefix
        listed = "" if {*prefix} & {*'"{}\\'} else listed
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

    def _unfollowed(self, name: str, mask: Mask) -> Lines:
        having = frozenset(i for i in mask if name in self.context.records[i] and (name, i) not in self._done)
        if not having:
            return []
        if having == mask:
            return self._attribute(name, having, None, None)
        kind = next(self.context.records[i][name].kind for i in sorted(having))
        self._done |= {(name, i) for i in having}
        column = tuple(
            self.context.records[i][name].term if i in having else Lit(None) for i in range(len(self.context.paths))
        )
        hole = self._terms.setdefault((name, having), Hole(column, (name,)))
        text = flat(self.printer.code(hole))
        owner = self.author.self_name
        by_name = f"{_set_by_name(owner, kind)}{literal(name)}, {text})"
        placed = f"{owner}.{name} = {text}" if is_usable_name(name) else by_name
        return [f"if {text} is not None:", f"{STEP}{placed}"]

    def _rest(self, mask: Mask) -> Lines:
        """Attributes that no statement of the author's constructor was found for."""
        return self._all_unfollowed(self.context.attributes(), mask)


def _set_by_name(owner: str, kind: str) -> str:
    """The beginning of a call that sets what has a name that can't stand behind a dot."""
    if kind == BUFFER:
        return f"{owner}.register_buffer("
    if kind in (CHILD, PARAMETER):
        return f"{owner}.{'add_module' if kind == CHILD else 'register_parameter'}("
    return f"setattr({owner}, "
