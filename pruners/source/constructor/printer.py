"""Terms as code, in the author's words wherever those words still give the live values."""

from __future__ import annotations

import ast
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from ...places import Span
from ...run import computes_weights
from ..author import (
    Comments,
    Helpers,
    Namer,
    Scope,
    Vector,
    argument_hints,
    bind,
    call_in,
    handed_in_loop,
    in_comprehensions,
)
from ..live import (
    AXES,
    Alias,
    Arg,
    Box,
    Call,
    Closure,
    Display,
    Either,
    Given,
    Hole,
    Item,
    Lit,
    Ref,
    Term,
    Text,
    Unsaid,
    is_authored,
    is_torch,
    literal,
    names_bound,
    one_for_all,
    placed_in,
    same,
    same_vector,
    small_tensor,
    value_of,
)
from ..text import (
    Group,
    commented,
    dedented,
    first_word,
    flat,
    labelled,
    loaded_names,
    parameters_of,
    replaced,
    span_of,
    stored_names,
    value_named,
)
from .context import ClassContext

Code = Group | str
POSITIONAL_WIDTHS = 4
_LOOPS = ("<listcomp>", "<genexpr>")
"""Functions of comprehensions: up to Python 3.11 also those of lists have frames of their own."""


@dataclass(frozen=True)
class Open:
    """A hole without a name yet: where it is, and the author's expression there."""

    hole: Hole
    hint: ast.expr | None
    label: str | None = None  # what the author's constructor calls the module that belongs there
    alone: bool = False  # modules with weights of their own


@dataclass(frozen=True)
class Site:
    """The author's call that makes a module: ``direct`` if it stands in the constructor itself, once."""

    call: ast.Call | None
    hints: Mapping[str, ast.expr]


class Printer:
    """Prints terms of one class. ``active``: the instances that reach the statement being written."""

    def __init__(self, context: ClassContext, scope: Scope, namer: Namer) -> None:
        self.tree = tree = context.tree
        self.author = author = context.author
        self.paths = paths = context.paths
        self.given = context.given
        self.scope = scope
        self.namer = namer
        self.texts: dict[int, str] = {}
        self.open: dict[int, Open] = {}
        self.active: tuple[int, ...] = tuple(range(len(paths)))
        self.seen: list[tuple[str, Vector]] | None = None
        self.computed: dict[str, ast.expr] = {}  # author's parameters that follow from others
        self.widths: set[str] = set()  # names that count channels
        self.definitions: dict[str, list[str]] = {}  # local functions to be defined before the statement being written
        self.bound: set[str] = set()  # names that functions made by the constructor bind, and their own
        self.wishes: set[str] = set()  # author's parameters that text would use if it could
        self.makes: Callable[[ast.expr, Sequence[tuple[int, Any]]], ast.expr | None] = lambda *_: None
        self.tells: Callable[[ast.expr, frozenset[int], frozenset[int]], str] = lambda *_: ""
        self._sites: dict[tuple[str | int | None, ...], Site] = {}
        self.helpers = Helpers(tree, author, paths)
        self.comments = Comments(tree, author, paths)

    def code(self, term: Term, hint: ast.expr | None = None, direct: bool = True, axes: bool = False) -> Code:
        """Code for a term. ``hint``: the author's expression there, in the constructor's names; ``axes``: it may say
        a number for every axis where the term has one for all."""
        if hint is not None and self.seen is not None and not isinstance(term, Call | Box | Either | Alias):
            values = term.values if isinstance(term, Hole) else (term,) * len(self.paths)
            seen = tuple(v if i in self.active else None for i, v in enumerate(values))
            if not isinstance(hint, ast.Constant | ast.Lambda):
                whole = self._by_axis(hint, seen) if axes else [(ast.unparse(hint), seen)]
                self.seen += [*whole, *([] if axes else self._parts(hint, seen))]
        if isinstance(hint, ast.Name) and hint.id in self.computed:
            hint, direct = self.computed[hint.id], False
        if isinstance(term, Either):
            return self._either(term)
        if isinstance(hint, ast.Constant) and isinstance(term, Lit) and _made_float(hint.value, term.value):
            return self._author_text(hint, direct)
        if hint is not None and self.fits(hint, term, axes):
            if isinstance(hint, ast.Name) and isinstance(term, Hole) and term.is_width:
                self.widths.add(hint.id)
            if isinstance(term, Lit) and not direct and not loaded_names(hint):
                return literal(term.value)
            return self._author_text(hint, direct)
        values = term.values if isinstance(term, Hole) else (term,)
        if any(isinstance(v, Given) for v in values):
            return self._handed(term, hint)
        if isinstance(term, Hole):
            if hint is not None and self._would_fit(hint, term):
                self.wishes |= loaded_names(hint) & set(self.scope.hidden) & set(self.author.parameters)
            return self._hole(term, hint)
        if isinstance(term, Call):
            said = isinstance(hint, ast.Call) and not term.paths and self._names_class(hint.func, term.fn)
            guided = self.guided(term, hint) if said and isinstance(hint, ast.Call) else None
            return guided or self._call(term)
        if isinstance(term, Closure):
            return self._closure(term)
        if isinstance(term, Box):
            return self._box(term)
        return self._plain(term)

    def _either(self, term: Either) -> Code:
        """``yes if test else no``, or the one of them that all instances have here."""
        active, codes = self.active, list[Code]()
        parts = [frozenset(i for i in active if term.sides[i] is side) for side in (True, False)]
        for value, part in zip((term.yes, term.no), parts, strict=True):
            self.active = tuple(sorted(part))
            codes.append(self.code(value) if part else "")
        self.active = active
        if not all(parts):
            return codes[0] if parts[0] else codes[1]
        (yes, no), told = codes, self.tells(term.node.test, *parts)
        if isinstance(no, Group) and len(flat(no)) > len(flat(yes)):
            return replace(no, open=f"{flat(yes)} if {told} else {no.open}")
        if isinstance(yes, Group):
            return replace(yes, close=f"{yes.close} if {told} else {flat(no)}")
        return f"{yes} if {told} else {flat(no)}"

    def fits(self, hint: ast.expr, term: Term, axes: bool = False) -> bool:
        values = term.values if isinstance(term, Hole) else (term,) * len(self.paths)
        pairs = [(i, values[i]) for i in self.active]
        if isinstance(hint, ast.Name) and hint.id in self.scope.words:
            word = self.scope.words[hint.id]
            return all(t is None or same(word[i], t) or (axes and same(_for_all_axes(word[i]), t)) for i, t in pairs)
        return self.scope.proves(hint, pairs) or (axes and self.scope.proves(hint, pairs, read=one_for_all))

    def _by_axis(self, hint: ast.expr, seen: Vector) -> list[tuple[str, Vector]]:
        """What stands where a number may be for every axis: as the constructor was given it, or each by itself."""
        if isinstance(hint, ast.Tuple | ast.List):
            pairs = enumerate(hint.elts)
            return [(ast.unparse(e), tuple(_on_axis(t, axis) for t in seen)) for axis, e in pairs]
        given = self.given(hint.id) if isinstance(hint, ast.Name) else None
        if given is not None and all(
            t is None or same(_for_all_axes(g), t) for g, t in zip(given, seen, strict=True)
        ):
            seen = tuple(None if t is None else g for g, t in zip(given, seen, strict=True))
        return [(ast.unparse(hint), seen)]

    def _parts(self, hint: ast.expr, seen: Vector) -> list[tuple[str, Vector]]:
        """What stands in a tuple of parameters of which one has another value than it was given."""
        if not isinstance(hint, ast.Tuple | ast.List) or not all(isinstance(t, Lit | None) for t in seen):
            return []
        values = [t.value if t is not None else None for t in seen if isinstance(t, Lit | None)]
        if any(v is not None and (not isinstance(v, tuple | list) or len(v) != len(hint.elts)) for v in values):
            return []
        parts = [(e.id, tuple(None if v is None else Lit(v[n]) for v in values))
                 for n, e in enumerate(hint.elts) if isinstance(e, ast.Name)]  # fmt: skip
        given = [(self.given(name), vector) for name, vector in parts]
        changed = any(g is not None and not same_vector(g, v) for g, v in given)
        return list(parts) if changed else []

    def _would_fit(self, hint: ast.expr, term: Term) -> bool:
        values = term.values if isinstance(term, Hole) else (term,) * len(self.paths)
        return self.scope.proves(hint, [(i, values[i]) for i in self.active], hidden=True)

    def _handed(self, term: Term, hint: ast.expr | None) -> Code:
        """An object in the author's words, which make it again; else the constructor is handed it as well."""
        values = term.values if isinstance(term, Hole) else (term,) * len(self.paths)
        wanted = [(i, value_of(v)) for i in self.active if isinstance(v := values[i], Given | Lit | Ref)]
        again = self.makes(hint, wanted) if hint is not None else None
        if again is not None:
            return self._author_text(again, False)
        if hint is not None and self._would_fit(hint, term):
            self.wishes |= loaded_names(hint) & set(self.scope.hidden) & set(self.author.parameters)
        elif not isinstance(term, Hole) or "" in self.paths:
            found = [v.value for v in values if isinstance(v, Given)]
            written = small_tensor(found[0]) if not isinstance(term, Hole) else None
            if written is None and self.seen is None:
                raise Unsaid(found[0])
            return self.code(written) if written is not None else "_given_"
        return self._hole(term if isinstance(term, Hole) else Hole(tuple(values), ("handed",)), hint)

    def _author_text(self, hint: ast.expr, direct: bool) -> str:
        text = self.author.init_file.segment(hint) if direct else ast.unparse(hint)
        return ast.unparse(hint) if "\n" in text else text

    def _hole(self, hole: Hole, hint: ast.expr | None) -> str:
        if id(hole) not in self.texts:
            self.open.setdefault(id(hole), Open(hole, hint, self._label(hole), self._has_weights(hole)))
        return self.texts.get(id(hole), f"_hole_{'_'.join(hole.where)}")

    def _has_weights(self, hole: Hole) -> bool:
        paths = [p for v in hole.values if isinstance(v, Call | Box) for p in v.paths if p is not None]
        return any(self.tree.live[p].state_dict() for p in paths if p in self.tree.live)

    def _label(self, hole: Hole) -> str | None:
        """``activation`` where the author calls ``activation_layer(...)``, or the name it was handed over under."""
        for value in hole.values:
            path = value.paths[0] if isinstance(value, Call | Box) and value.paths else None
            making = self.tree.making(path, self.paths)
            if making is None:
                continue
            if making.given:
                return making.given[0]
            frames = making.birth.frames
            made = call_in(frames[0], self.tree.sources) if frames else None
            if made is not None and isinstance(made[1].func, ast.Name) and made[1].func.id.endswith("_layer"):
                return made[1].func.id.removesuffix("_layer")
        return None

    def _plain(self, term: Term) -> Code:
        if isinstance(term, Lit):
            return _in_rows(term.value)
        if isinstance(term, Ref):
            return self.namer.text(term.value)
        if isinstance(term, Text):
            return term.text
        if isinstance(term, Alias):
            return term.target
        assert isinstance(term, Display)
        parts = [self.code(i) for i in term.items]
        if term.kind == "dict":
            parts = [labelled(f"{flat(self.code(k))}: ", p) for k, p in zip(term.keys, parts, strict=True)]
            return Group("{", tuple(parts), "}")
        if term.kind == "tuple":
            return Group("(", tuple(parts), ",)" if len(parts) == 1 else ")")
        return Group("[", tuple(parts), "]")

    def _closure(self, term: Closure) -> str:
        """A function that the constructor makes, with the numbers that it has now; a ``def`` stands before its use."""
        parts: list[tuple[Span, str]] = []
        bound = names_bound(term.node)
        self.bound |= bound
        for expr, arg, template in zip(term.exprs, term.args, term.templates, strict=True):
            shadowed = template and loaded_names(expr) & bound
            text = flat(self.code(arg.value, None if shadowed else expr, direct=False))
            parts += placed_in(term, expr, template, text)
        text = replaced(term.file, span_of(term.node), parts)
        if isinstance(term.node, ast.Lambda):
            return text
        self.definitions[term.node.name] = dedented(text, term.node.col_offset)
        return term.node.name

    # calls

    def _call(self, term: Call) -> Code:
        helper = self.helpers.call(term, self.active)
        term, site = helper or term, self.site(term.paths, 1 if helper else 0)
        given = helper or is_torch(term.fn) or term.fn in self.tree.imported
        if site.call is not None and given and self._names_class(site.call.func, term.fn):
            guided = self.guided(term, site.call)
            if guided is not None:
                return guided
        parts: list[Code] = []
        in_order, widths = True, POSITIONAL_WIDTHS if isinstance(term.fn, type) and is_authored(term.fn) else 99
        for i, arg in enumerate(term.args):
            hint = self._in_loop(term, arg) or site.hints.get(arg.name)
            code = self.code(arg.value, hint, direct=False, axes=_per_axis(term, arg.name))
            if self._is_default(arg, hint, term) or (hint is None and _is_usual_stride(arg, term)):
                in_order = False
                continue
            positional = in_order and (arg.positional or (arg.show and i == 0)) and len(parts) < widths
            in_order = positional
            parts.append(code if positional else labelled(f"{arg.name}=", code))
        return Group(f"{self.namer.text(term.fn)}(", tuple(parts), ")")

    def _in_loop(self, term: Call, arg: Arg) -> ast.expr | None:
        """The author's expression for an object that was handed over in a loop; None for anything else."""
        making = self.tree.making(next((p for p in term.paths if p is not None), None), self.paths)
        if making is None or making.depth is None or not isinstance(arg.value, Given):
            return None
        return handed_in_loop(making.birth, making.depth, arg.name, self.tree.sources)

    def sized(self, term: Call, made: Call, create: Any, hints: Sequence[ast.expr]) -> Code:
        """A tensor of the author's kind with sizes in the author's words: ``nn.Parameter(torch.ones(1, dim))``."""
        sizes = [a for a in made.args if a.name.isdecimal()]
        parts = [self.code(a.value, h) for a, h in zip(sizes, hints or [None] * len(sizes), strict=True)]  # type: ignore[list-item]
        for arg in made.args:
            if not arg.name.isdecimal() and not self._is_default(arg, None):
                parts.append(self.code(arg.value) if arg.positional else labelled(f"{arg.name}=", self.code(arg.value)))
        inner: Code = Group(f"{self.namer.text(create)}(", tuple(parts), ")")
        if term is made:
            return inner
        rest = [labelled(f"{a.name}=", self.code(a.value)) for a in term.args[1:] if not self._is_default(a, None)]
        return Group(f"{self.namer.text(term.fn)}(", (inner, *rest), ")")

    def _is_default(self, arg: Arg, hint: ast.expr | None, call: Call | None = None) -> bool:
        if arg.default is None or arg.show or isinstance(arg.value, Hole) or not same(arg.value, arg.default):
            return False
        word = isinstance(hint, ast.Name) and hint.id in self.scope.words
        return not (word and hint is not None and self.fits(hint, arg.value, _per_axis(call, arg.name)))

    def _names_class(self, func: ast.expr, wanted: Any) -> bool:
        return self.global_value(func) is wanted

    def global_value(self, name: ast.expr) -> Any:
        """What a name, dots included, means at the top of the author's file; None for anything else."""
        local = first_word(name) in self.author.parameters.keys() | self.author.stored
        return None if local else value_named(name, self.author.globals)

    def is_around(self, term: Term, call: ast.Call) -> bool:
        """Whether a call is given the module that it gives, ``initialised(nn.Linear(2, 3))``: the module alone is
        written."""
        given = next((a for a in call.args if isinstance(a, ast.Call)), None)
        if not isinstance(term, Call) or given is None or not self._names_class(given.func, term.fn):
            return False
        return not self._names_class(call.func, term.fn) and not computes_weights(self.global_value(call.func))

    def guided(self, term: Call, call: ast.Call) -> Code | None:
        """The author's call with the arguments that changed replaced."""
        bound = bind(call, list(parameters_of(term.fn)))
        if bound is None:
            return None
        by_name = {a.name: a for a in term.args}
        if not set(bound) <= set(by_name):
            return None
        parts: list[Code] = []
        keywords = {id(k.value) for k in call.keywords}
        for name, expr in reversed(list(bound.items()) if not isinstance(term.fn, type) else []):
            if not self._dropped(by_name[name], expr, term):
                break
            del bound[name]
        kept = [(n, e) for n, e in bound.items() if not (id(e) in keywords and self._dropped(by_name[n], e, term))]
        for name, expr in kept:
            code = self.code(by_name[name].value, expr, axes=_per_axis(term, name))
            parts.append(labelled(f"{name}=", code) if id(expr) in keywords else code)
        for arg in term.args:
            if arg.name not in bound and not (arg.default is not None and same(arg.value, arg.default)):
                if _is_usual_stride(arg, term) or (arg.show and same(arg.value, arg.default or Lit(None))):
                    continue
                parts.append(labelled(f"{arg.name}=", self.code(arg.value)))
        explode = call.end_lineno != call.lineno and self._one_per_line(call)
        return Group(f"{self.author.init_file.segment(call.func)}(", tuple(parts), ")", explode)

    def _dropped(self, arg: Arg, expr: ast.expr, call: Call) -> bool:
        default = arg.default is not None and same(arg.value, arg.default)
        return default and not self.fits(expr, arg.value, _per_axis(call, arg.name))

    @staticmethod
    def _one_per_line(call: ast.Call) -> bool:
        lines = [a.lineno for a in (*call.args, *(k.value for k in call.keywords))]
        return len(set(lines)) == len(lines) and min(lines) > call.lineno

    def site(self, paths: tuple[str | None, ...], level: int = 0) -> Site:
        """Where the modules were made; ``level`` 1: where the helper function was called that made them."""
        wanted = tuple(paths[i] if i < len(paths) else None for i in self.active) if len(paths) > 1 else paths
        key = (level, *wanted)
        if key not in self._sites:
            self._sites[key] = self._find_site(wanted, level)
        return self._sites[key]

    def _find_site(self, paths: tuple[str | None, ...], level: int) -> Site:
        found: list[tuple[ast.Call | None, Mapping[str, ast.expr]]] = []
        for path in paths:
            if path is None:
                continue
            making, birth = self.tree.making(path, self.paths), self.tree.birth(path)
            if birth is None:
                continue  # shared with another place, or not made again: nothing is known
            if making is None or (depth := making.depth) is None:
                return Site(None, {})
            here = depth >= level and all(f.function in _LOOPS for f in birth.frames[level:depth])
            made = call_in(birth.frames[level], self.tree.sources) if here else None
            call = made[1] if made is not None and made[0] is self.author.init_file else None
            if made is not None and call is not None and in_comprehensions(*made) & loaded_names(call):
                call = None  # it says something else in every pass
            found.append((call, argument_hints(birth, depth, self.tree.sources, level)))
        if not found:
            return Site(None, {})
        call = found[0][0] if all(c is found[0][0] for c, _ in found) else None
        others = [h for _, h in found[1:]]
        hints = {
            n: e for n, e in found[0][1].items() if all(n in h and _alike(h[n], e) for h in others)
        }
        return Site(call, hints)

    # containers

    def _box(self, term: Box) -> Code:
        site = self.site(term.paths)
        plain = term.fn is nn.Module and term.items  # the author's code gives it its layers line by line
        name = self.namer.text(nn.ModuleDict if plain else term.fn)
        parts = [self.item(i, site.call) for i in term.items]
        repeated = self._repeated(parts, site.call)
        if repeated is not None:
            return repeated
        if issubclass(term.fn, nn.Sequential):
            explode = self._long(term, site.call)
            if not term.has_names:
                return Group(f"{name}(", tuple(parts), ")", explode)
            pairs = tuple(Group("(", (literal(i.name), p), ")") for i, p in zip(term.items, parts, strict=True))
            return Group(f"{name}({self.namer.text(OrderedDict)}([", pairs, "]))", explode)
        explode = self._long(term, site.call)
        if issubclass(term.fn, nn.ModuleList):
            return Group(f"{name}([", tuple(parts), "])", explode) if parts else f"{name}()"
        labels = [literal(i.name) for i in term.items]
        pairs_ = [labelled(f"{n}: ", p) for n, p in zip(labels, parts, strict=True)]
        return Group(f"{name}({{", tuple(pairs_), "})", explode) if parts else f"{name}()"

    def _repeated(self, parts: Sequence[Code], call: ast.Call | None) -> Code | None:
        """The author's comprehension, if each of its passes still makes the same."""
        given = call.args[0] if call is not None and len(call.args) == 1 and not call.keywords else None
        loop = given.value if isinstance(given, ast.Starred) else given
        if call is None or not isinstance(loop, ast.ListComp | ast.GeneratorExp) or len(loop.generators) > 1:
            return None
        (passes,), segment = loop.generators, self.author.init_file.segment
        function = passes.iter.func if isinstance(passes.iter, ast.Call) else None
        if not (isinstance(function, ast.Name) and function.id == "range"):
            return None  # a list may hold numbers that the passes no longer take
        length = ast.Call(ast.Name("len", ast.Load()), [passes.iter], [])
        commented_ = any(isinstance(p, Group) and p.is_commented for p in parts)
        if commented_ or len({flat(p) for p in parts}) != 1 or passes.ifs or passes.is_async:
            return None
        if not isinstance(loop.elt, ast.Call) or loaded_names(loop.elt) & stored_names(passes.target):
            return None
        if not self.scope.proves(length, [(i, Lit(len(parts))) for i in self.active]):
            return None
        star, (before, behind) = "", ("[", "]") if isinstance(loop, ast.ListComp) else ("", "")
        if loop is not given:
            star, before, behind = "*", before or "(", behind or ")"
        opening = f"{segment(call.func)}({star}{before}"
        closing = f" for {segment(passes.target)} in {segment(passes.iter)}{behind})"
        first = parts[0] if isinstance(parts[0], Group) else Group(parts[0], (), "")
        return replace(first, open=opening + first.open, close=first.close + closing)

    def _long(self, term: Box, call: ast.Call | None) -> bool:
        if call is not None and call.end_lineno != call.lineno:
            return True
        values = [i.value for i in term.items]
        nested = any(isinstance(v, Box) or (isinstance(v, Call) and is_authored(v.fn)) for v in values)
        return len(values) > 2 or (len(values) > 1 and nested)

    def item(self, item: Item, container: ast.Call | None = None) -> Code:
        """An element of a container, with the author's comments about it."""
        code = self.code(item.value)
        return commented(code, *self.comments_at(item.value, container))

    def comments_at(self, term: Term, container: ast.Call | None = None) -> tuple[list[str], str]:
        """The author's comments above an element of a container or list, and behind it."""
        if isinstance(term, Either):
            return self.comments.at(term.node, container)
        return self.comments.of(term.paths, container) if isinstance(term, Call | Box) else ([], "")


def _for_all_axes(term: Term | None) -> Term | None:
    return Lit(one_for_all(term.value)) if isinstance(term, Lit) else term


def _in_rows(value: Any) -> Code:
    """A literal; of a table each row is a part of its own."""
    rows = list(value.values()) if type(value) is dict else value if type(value) is list else []
    if not any(type(r) in (list, tuple, dict) for r in rows):
        return literal(value)
    parts = tuple(map(_in_rows, rows))
    if isinstance(value, dict):
        parts = tuple(labelled(f"{literal(k)}: ", p) for k, p in zip(value, parts, strict=True))
        return Group("{", parts, "}")
    return Group("[", parts, "]")


def _on_axis(term: Term | None, axis: int) -> Term | None:
    several = isinstance(term, Lit) and isinstance(term.value, tuple)
    return Lit(term.value[axis]) if several and axis < len(term.value) else term  # type: ignore[union-attr]


def _is_usual_stride(arg: Arg, call: Call) -> bool:
    """Whether it is a pool's stride and equals its window, as it does where nobody gives it."""
    window = next((a.value for a in call.args if a.name == "kernel_size"), None)
    if arg.name != "stride" or arg.default != Lit(None) or window is None:
        return False
    if isinstance(arg.value, Hole) and isinstance(window, Hole):
        return same_vector(arg.value.values, window.values)
    return same(arg.value, window)


def _per_axis(call: Call | None, argument: str) -> bool:
    """Whether a layer of torch's takes a number for every axis there, or one for all."""
    return call is not None and argument in AXES and is_torch(call.fn)


def _alike(first: ast.expr, second: ast.expr) -> bool:
    return first is second or ast.dump(first) == ast.dump(second)


def _made_float(said: Any, held: Any) -> bool:
    """Whether a layer holds a whole number that it was given as a float: ``scale_factor=2``."""
    return type(said) is int and type(held) is float and said == held
