"""The constructor of one class: its parameters, its body, and the call that makes each instance."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from torch import nn

from ..author import Scope, Vector, as_term, attribute_reads, binding, term_of_default, turns_out_alike
from ..live import Arg, Box, Call, Given, Lit, Ref, Term, is_plain, literal, numbers_in, same, same_vector
from ..text import STEP, flat, loaded_names, stored_names
from .conditions import INDENT
from .context import ClassContext
from .followed import (
    changed_by_methods,
    changed_later,
    counts_channels,
    follow,
    followed,
    reads_a_part,
    renew,
    without_terms,
)
from .idioms import Idioms, in_other_words
from .init_writer import InitWriter
from .naming import Group, merged, name_holes, type_name
from .parameters import Parameter, WrittenInit, header_lines
from .printer import Printer
from .walk import Walk

PASSES = 16


class ClassWriter:
    """Repeats writing until names, conditions and parameters agree with each other."""

    def __init__(self, context: ClassContext) -> None:
        self.context = context
        self.author = context.author
        self.scope = Scope(self.author, context.live)
        self.namer = context.namer()
        self.printer = Printer(context, self.scope, self.namer)
        self.writer = InitWriter(context, Walk(context), self.scope, self.printer)
        self.printer.makes = self.writer.hands
        self.printer.tells = self.writer.tells
        self.groups: list[Group] = []
        self.single = len(context.paths) == 1
        self.constant: set[str] = set()  # names of the author's that mean the same in every instance

    def write(self) -> WrittenInit:
        self._seed()
        lines: list[str] = []
        for _ in range(PASSES):
            self.printer.open.clear()
            self.printer.wishes.clear()
            lines = self.writer.write()
            if self._grant_wishes() or self.writer.keeps_more:
                continue
            if not (self._name_open(lines) or self._update_locals(lines) or self._drop_words()):
                break
        self._say_idioms()
        lines = self.writer.write()
        while self._take_back():
            lines = self.writer.write()
        self.writer.used = set(_read_in("\n".join(lines)))
        lines = self.writer.write()
        parameters = self._parameters(lines)
        if not self.context.is_root:  # another network can be built and tried
            self.writer.tell_dropped({p.name for p in parameters}, ast.parse("\n".join(lines)))
        method, calls, extra = self._method(parameters, lines), self._calls(parameters), dict(self.namer.extra)
        return WrittenInit(method, parameters, calls, extra, tuple(self.writer.untold))

    # words

    def _seed(self) -> None:
        """Which of the author's names have one value per instance, and so may appear in the text."""
        attributes = followed(self.context, self.writer.walk)
        opaque = {n: e for n, e in without_terms(self.context, self.writer.walk).items() if n not in attributes}
        traced = {n for n, v in self.context.traced.items() if v is not None or n in self.context.running}
        self.context.waiting |= {*attributes, *opaque, *traced}
        self.printer.seen = []
        self.writer.write()
        said = self.writer.said = self._votes()
        votes = {n: v for n, v in said.items() if n.isidentifier()}
        self.printer.seen = None
        self._follow(attributes, said)
        for s in self.writer.walk.settings:  # a record that is kept as it was given
            name = s.value.id if isinstance(s.value, ast.Name) and s.attribute in self.context.traced else ""
            if name in self.author.parameters and s.attribute in self.scope.overrides:
                votes.setdefault(name, self.scope.overrides[s.attribute])
        self.context.verbatim |= {n for n, e in opaque.items() if not counts_channels(self.context, [e], said)}
        definitions = self.author.local_definitions()
        for name in (*self.author.parameters, *sorted(self.author.stored)):
            known = name in self.author.parameters and name not in self.author.stored
            given = self.context.given(name) if known else self.context.left(name) if name in definitions else None
            vector = votes.get(name, given)
            if vector is None:
                continue
            vector = self._filled(name, vector, votes)
            if self.single or all(t is None or same(t, u) for t in vector for u in vector[:1] if u is not None):
                self.constant.add(name)
            usable = self._usable_alone(name, vector) if name in self.constant else None not in vector[:1]
            if name not in self.author.parameters and name not in definitions and (self.single or name not in votes):
                usable = False
            if name in self.author.parameters and self._ignored(name):
                usable = False
            if name not in self.author.parameters and any(isinstance(t, Given) for t in vector):
                usable = False
            (self.scope.words if usable else self.scope.hidden)[name] = vector
        for name in definitions:
            if self._defined(name, definitions[name].value):
                self.writer.locals.add(name)
            elif name in self.scope.words and (name in self.constant or name not in votes):
                self.scope.hidden[name] = self.scope.words.pop(name)

    def _follow(self, attributes: Mapping[str, ast.expr], said: Mapping[str, Vector | None]) -> None:
        """Settles the attributes that only scripts read."""
        context = self.context
        context.waiting.clear()
        before = {n: [r.get(n) for r in context.records] for n in {**attributes, **context.traced}}
        for name, values in context.traced.items():
            if values is not None and self._changed(name, values, attributes.get(name), said):
                renew(context, name, values)
                self._override(name)
        for name, expr in attributes.items():
            context.more.add(name)
            later = changed_later(context, name)
            counts = counts_channels(context, [expr, *later], said)
            if not later and f"{self.author.self_name}.{name}" not in said and reads_a_part(context, expr):
                context.verbatim.add(name)  # it gives what the written part has
            elif name in self.scope.overrides:
                continue
            elif name in context.traced and context.traced[name] is None:
                self._follow_in_doubt(name, expr, said)
            elif later and not counts and not any(map(self.writer.rewrites, later)):
                context.verbatim.add(name)
            elif later and (not counts or self._says_no_number(name)):
                continue  # written as it ends
            elif not later and follow(context, name, expr, said):
                self._override(name)
            elif not later and not counts and self._is_as_made(name):
                context.verbatim.add(name)
            elif later or counts or not self._says_no_number(name):
                context.more.discard(name)
        self._change_together()
        while wrong := self._turned() & set(self.scope.overrides):
            for name in wrong:
                del self.scope.overrides[name]
                for record, slot in zip(context.records, before[name], strict=True):
                    if slot is not None:
                        record[name] = slot

    def _follow_in_doubt(self, name: str, expr: ast.expr, said: Mapping[str, Vector | None]) -> None:
        """An attribute that counts channels, of a number that stands for several widths: it is what a layer is given
        that is given the attribute."""
        records, itself = self.context.records, f"{self.author.self_name}.{name}"
        before = [r.get(name) for r in records]
        told = said.get(itself) is not None and not changed_later(self.context, name)
        if follow(self.context, name, expr, said) and (told or [r.get(name) for r in records] != before):
            self._override(name)
        elif itself in said:
            self.context.more.discard(name)
        elif not any(name in attribute_reads(t) for t in self.context.tests):  # these turn out as they did
            self.context.doubtful.add(name)

    def _override(self, name: str) -> None:
        self.scope.overrides[name] = tuple(r[name].term if name in r else None for r in self.context.records)

    def _changed(
        self, name: str, values: Sequence[Any], expr: ast.expr | None, said: Mapping[str, Vector | None]
    ) -> bool:
        """Whether these can be written and are others than the modules hold, or records whose expression has to go."""
        new = [self.context.term_of(v) for v in values]
        held = [self.context.term_of(vars(live).get(name)) for live in self.context.live]
        if None in new or not all(map(same, new, held)):
            return None not in new
        if not self.context.may_follow(name):
            return True
        if all(map(is_plain, values)) or expr is None:
            return False
        given = self.context.is_root and loaded_names(expr) & set(self.author.parameters)
        return bool(given) or counts_channels(self.context, [expr], said)

    def _change_together(self) -> None:
        """A statement stays for all that it sets and changes, or everything is written as it ends."""
        verbatim, body = self.context.verbatim, self.author.init.body if self.author.init else []
        groups = [changed_by_methods(self.context, s) for s in body]
        groups += [{name for name, _ in self.writer.walk.settings_in(s)} for s in body]
        while torn := set().union(*(g & verbatim for g in groups if any(map(self.writer.written_as_it_ends, g)))):
            verbatim -= torn

    def _turned(self) -> set[str]:
        """Attributes in conditions that turn out otherwise, in some instance, with those that follow."""
        reads = [(t, n) for t in self.context.tests if (n := attribute_reads(t)) & set(self.scope.overrides)]
        pairs = [(live, self.scope.owner(i)) for i, live in enumerate(self.context.live)]
        return set().union(*(n for t, n in reads if not all(turns_out_alike(t, *pair) for pair in pairs)))

    def _is_as_made(self, name: str) -> bool:
        """Whether a plain value is still what the constructor made."""
        for live, birth in zip(self.context.live, self.context.births, strict=True):
            value = vars(live).get(name)
            made = vars(birth.module).get(name, value) if birth is not None else value
            if is_plain(value) and not same(as_term(made), Lit(value)):
                return False
        return True

    def _says_no_number(self, name: str) -> bool:
        """Whether an attribute consists of texts, True, False and None without a size that is another one now."""
        held = [(i, vars(live)[name]) for i, live in enumerate(self.context.live) if name in vars(live)]
        return not any(_counts(v) or numbers_in(v) & self.context.cut[i] for i, v in held)

    def _votes(self) -> dict[str, Vector | None]:
        """Author's word -> the live values where it stands; None if they disagree."""
        votes: dict[str, Vector | None] = {}
        for word, vector in self.printer.seen or ():
            if word not in votes:
                votes[word] = vector
            elif (known := votes[word]) is not None:
                agree = same_vector(known, vector)
                votes[word] = merged(known, vector) if agree else None
        return votes

    def _filled(self, name: str, vector: Vector, votes: Mapping[str, Vector | None]) -> Vector:
        """Values for instances where the word stands nowhere: those of another word that meant the same before."""
        given = {n: self.context.given(n) or self.context.left(n) for n in (name, *votes)} if None in vector else {}
        filled = list(vector)
        mine = given.get(name)
        if mine is not None and same_vector(mine, vector):
            return mine  # nothing touched this word
        for i, term in enumerate(vector):
            if term is not None or mine is None or mine[i] is None:
                continue
            before = {n: g[i] for n, g in given.items() if g is not None and g[i] is not None}
            twins = [t for n, v in votes.items() if v is not None and (t := v[i]) is not None
                     and n in before and same(before[n], mine[i])]  # fmt: skip
            if twins and all(same(t, twins[0]) for t in twins):
                filled[i] = twins[0]
        return tuple(filled)

    def _usable_alone(self, name: str, vector: Vector) -> bool:
        """In a class with one instance a word stays if pruning didn't touch it."""
        given = self.context.given(name)
        if name in self.author.parameters and self.context.is_root:
            return given is not None and same_vector(given, vector) and isinstance(vector[0], Lit | Ref)
        return isinstance(vector[0], Lit if name not in self.author.parameters else Lit | Ref | Given)

    def _ignored(self, name: str) -> bool:
        """Whether the constructor gives a parameter another value, whatever it was given."""
        body = self.author.init.body if self.author.init is not None else []
        first = next((s for s in body if name in loaded_names(s) | stored_names(s)), None)
        return isinstance(first, ast.Assign) and name not in loaded_names(first)

    def _defined(self, name: str, value: ast.expr) -> bool:
        vector = self.scope.words.get(name)
        return vector is not None and self.scope.proves(value, enumerate(vector))

    def _update_locals(self, lines: list[str]) -> bool:
        unused = self.writer.locals - _read_in("\n".join(lines))
        self.writer.locals -= unused
        for name in unused & self.constant & set(self.scope.words) - set(self.author.parameters):
            self.scope.hidden[name] = self.scope.words.pop(name)  # nobody has to hand over what is always the same
        return bool(unused)

    def _drop_words(self) -> bool:
        """In a class with one instance a word stays only if every use of it stays."""
        if not self.single or self.author.init is None:
            return False
        lost = self.writer.lost_words() & set(self.scope.words) - self.writer.locals
        lost |= {n for n in self.writer.locals if not self._defined(n, self.author.local_definitions()[n].value)}
        for name in sorted(lost - {g.name for g in self.groups}):  # a parameter of ours may share a local name's word
            self.scope.hidden[name] = self.scope.words.pop(name)
            self.writer.locals.discard(name)
        return bool(lost)

    def _grant_wishes(self) -> bool:
        """Parameters that are the same everywhere stay parameters where a condition of the author reads them."""
        wishes = set[str]() if self.single else self.printer.wishes
        granted = {n for n in wishes if None not in self.scope.hidden.get(n, (None,))}
        for name in sorted(granted):
            self.scope.words[name] = self.scope.hidden.pop(name)
        self.printer.wishes.clear()
        return bool(granted)

    def _name_open(self, lines: Sequence[str]) -> bool:
        opens = list(self.printer.open.values())
        if not opens:
            return False
        unread = set(self.author.parameters) - set(self.writer.said) - _read_in("\n".join(lines))
        words = {n: v for n, v in self.scope.words.items() if n not in unread}  # another number may take those
        taken = (
            set(words)
            | set(self.author.globals) & {"F", "nn", "torch"}
            | {g.name for g in self.groups}
            | set(self.writer.flags)
            | self.writer.lists
            | self.printer.bound
        )
        known = {**self.writer.flags, **words}
        for group in name_holes(opens, self.author.parameters, known, self.printer.widths, taken):
            if group.name not in words:
                self.groups.append(group)
            vector = merged(words.get(group.name, group.vector), group.vector)
            if group.word in self.author.parameters and any(isinstance(t, Call | Box) for t in vector):
                vector = tuple(Lit(None) if t is None else t for t in vector)  # so ``if layer is not None`` still tells
            self.scope.words[group.name] = vector
            self.scope.hidden.pop(group.name, None)
            for hole in group.opens:
                self.printer.texts[id(hole.hole)] = group.name
        return True

    def _say_idioms(self) -> None:
        """Parameters that the author computed from others are computed again; a width only if it is another one."""
        idioms, words = Idioms(self.context), self.scope.words
        for group in self.groups[:]:
            argument = group.word or group.places[0][-1]
            expr = idioms.expression(group.name, argument, group.vector, self.scope)
            if expr is not None and (isinstance(expr, ast.Name) or not group.is_width):
                self.printer.texts |= {id(hole.hole): ast.unparse(expr) for hole in group.opens}
                self.groups.remove(group)
                self.scope.hidden[group.name] = words.pop(group.name)
        for group in [g for g in self.groups if g.is_width]:
            others = [n for n in words if n != group.name and (n in self.printer.widths or n in self._own_widths())]
            found = {id(o.hole): in_other_words(o.hint, o.hole.values, others, self.scope) for o in group.opens}
            texts = {hole: ast.unparse(expr) for hole, expr in found.items() if expr is not None}
            if len(texts) == len(found):
                self.printer.texts |= texts
                self.groups.remove(group)
                self.scope.hidden[group.name] = words.pop(group.name)
        named = {g.name for g in self.groups} | self.writer.locals
        for name in [n for n in words if n not in named]:
            expr = idioms.expression(name, name, words[name], self.scope)
            if expr is not None and (isinstance(expr, ast.Name) or name not in self.printer.widths):
                self.printer.computed[name] = expr
                self.scope.hidden[name] = words.pop(name)

    def _own_widths(self) -> set[str]:
        return {g.name for g in self.groups if g.is_width}

    def _take_back(self) -> bool:
        """A computed parameter stays a parameter where other expressions need its name."""
        needed = {n for o in self.printer.open.values() if o.hint is not None for n in loaded_names(o.hint)}
        names = set(self.printer.computed) & needed or set(self.printer.computed if self.printer.open else ())
        for name in sorted(names):
            del self.printer.computed[name]
            self.scope.words[name] = self.scope.hidden.pop(name)
        self.printer.open.clear()
        return bool(names)

    # parameters

    def _parameters(self, lines: list[str]) -> list[Parameter]:
        made = {n: v for n, v in self.scope.words.items() if n not in self.writer.locals}
        for name, vector in self.writer.flags.items():  # what one class reads itself, others hand on
            made[name] = merged(vector, made[name]) if name in made else vector
        found = [self._parameter(n, v) for n, v in made.items() if n in _read_in("\n".join(lines))]
        found.sort(key=lambda p: (p.keyword_only, p.default is not None, p.order))
        return found

    def _parameter(self, name: str, vector: Vector) -> Parameter:
        group = self._group(name)
        word = name if name in self.author.parameters else group.word if group else None
        author = self.author.parameters.get(word or "")
        default, text = self._default(name, vector)
        note = (
            (author.annotation if author else type_name(vector) or self._module_note(vector))
            if self.author.annotated
            else None
        )
        names = list(self.author.parameters)
        is_input = group is not None and group.places[0][-1].startswith("in_") and not group.produces
        at = names.index(word) if word in names else (-1 if is_input else len(names))
        order = (at, name == word, self.groups.index(group) if group else 0)
        if text == "None" and note is not None and "None" not in note and "Optional" not in note:
            note = self._or_none(note)
        return Parameter(name, vector, default, text, note, bool(author and author.keyword_only), order)

    def _or_none(self, note: str) -> str:
        """An annotation that allows None, where it says a type when it is run: ``callable`` and ``"Tensor"`` don't."""
        if binding(self.author.init_file, "annotations") is None:
            try:
                eval(f"{note} | None", dict(self.author.globals))
            except (TypeError, NameError, AttributeError):
                return note
        return f"{note} | None"

    def _module_note(self, vector: Vector) -> str | None:
        optional = " | None" if any(isinstance(t, Lit) for t in vector) else ""
        return self.namer.text(nn.Module) + optional if any(isinstance(t, Call) for t in vector) else None

    def _default(self, name: str, vector: Vector) -> tuple[Term | None, str | None]:
        author = self.author.parameters.get(name)
        if author is not None and author.default is not None:
            term = term_of_default(author.default, self.author.globals)
            given = self.context.given(name)
            untouched = not self.context.is_root and given is not None and same_vector(given, vector)
            if term is not None and (untouched or any(t is None or same(t, term) for t in vector)):
                return term, author.default_text
        if self.context.is_root and self.single:
            value = vector[0]
            return value, None if value is None else flat(self.printer.code(value))
        for usual in (None, False, 1, 0.0):
            if any((t is None and usual is None) or (t is not None and same(t, Lit(usual))) for t in vector):
                group = self._group(name)
                option = group is not None and not group.is_width and group.word is None
                if usual == 1 and (author is not None or not option):
                    continue
                return Lit(usual), literal(usual)
        return None, None

    def _group(self, name: str) -> Group | None:
        return next((g for g in self.groups if g.name == name), None)

    def _calls(self, parameters: list[Parameter]) -> dict[str, Call]:
        calls, widths = {}, self.printer.widths | self._own_widths()
        for i, path in enumerate(self.context.paths):
            args = []
            for p in parameters:
                value = p.vector[i] if p.vector[i] is not None else p.default or Lit(None)
                positional = p.default is None and not p.keyword_only
                args.append(Arg(p.name, value or Lit(None), p.default, positional, width=p.name in widths))
            calls[path] = Call(self.author.cls, tuple(args), (path,))
        return calls

    # text

    def _method(self, parameters: list[Parameter], lines: list[str]) -> list[str]:
        if self.author.init is None or not lines:
            return []
        header = header_lines(self.author, parameters)
        return [STEP + s for s in header] + [" " * INDENT + s if s else s for s in lines]


def _counts(value: Any) -> bool:
    """Whether a value holds a number, or something that is no literal."""
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(_counts, value))
    if isinstance(value, dict):
        return any(map(_counts, (*value, *value.values())))
    return value is not None and not isinstance(value, str | bool)


@lru_cache(maxsize=256)
def _read_in(text: str) -> frozenset[str]:
    """Names that the lines of a constructor read."""
    try:
        return frozenset(loaded_names(ast.parse(text)))
    except SyntaxError:
        return frozenset()
