"""The text of an author's constructor with other numbers in it."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from ...errors import ValueTextError
from ...places import Span
from ..author import AuthorClass, AuthorParameter, Written, bared, binding, term_of_default, unwelcome
from ..live import (
    Arg,
    Call,
    Given,
    Lit,
    Recorder,
    Ref,
    Term,
    Tree,
    is_plain,
    literal,
    same,
    term_of_value,
    with_equal_sides,
)
from ..text import STEP, FunctionNode, SourceFile, dedented, loaded_names, replaced, span_of
from .agreement import Arguments, one_by_one
from .context import ClassContext
from .parameters import Parameter, WrittenInit, header_lines
from .uses import Use

USUAL = ("device", "dtype")  # None says what torch does anyway


def path_of(tree: Tree, module: nn.Module) -> str:
    """Where a module that the author's constructor was handed is in the network."""
    return next(p for p, birth in tree.births.items() if birth.module is module)


def text_lines(author: AuthorClass, numbers: Mapping[Any, float], uses: Mapping[Written, Use]) -> list[str]:
    """The author's constructor, with other numbers in it, and others than his names say at some places (``uses``)."""
    init, file = author.init, author.init_file
    assert init is not None
    inside = [k for k in numbers if isinstance(k, Written) and k.stands_in(file, span_of(init))]
    parts = list(with_equal_sides(file, {k.span: literal(numbers[k]) for k in inside}).items())
    mine = [(k.span, u) for k, u in uses.items() if k.stands_in(file, span_of(init))]
    parts += [(span, use.written(file.span(*span))) for span, use in mine]
    for stmt in init.body:
        called = [author.globals.get(n) for n in loaded_names(stmt)] if isinstance(stmt, ast.Expr) else []
        if any(inspect.isfunction(f) and unwelcome(f.__module__) for f in called):
            parts.append((span_of(stmt), "\0"))
    for span, layer in bared(init, author.globals).items():
        gone = [s for s in init.body if isinstance(s, ast.Expr) and span_of(s.value) == span]
        parts += [(span, "\0")] if gone else list(_bare(file, span, span_of(layer)))
    comment = file.comment_behind(init.end_lineno or 0)
    text = replaced(file, span_of(init), parts) + (f"  {comment}" if comment else "")
    return [r for r in dedented(text, init.col_offset) if r.strip() != "\0"]


def _bare(file: SourceFile, call: Span, layer: Span) -> Iterator[tuple[Span, str]]:
    """What goes around a layer where the call goes that was handed it; its further lines follow to the left."""
    yield (*call[:2], *layer[:2]), ""
    columns = layer[1] - call[1]
    for line in range(layer[0] + 1, layer[2] + 1) if call[0] == layer[0] else ():
        if not file.lines[line - 1][:columns].strip():
            yield (line, 0, line, columns), ""
    yield (*layer[2:], *call[2:]), ""


def indented_text(author: AuthorClass, lines: Sequence[str]) -> list[str]:
    """For the body of a class, with the comments below the last statement."""
    last = [STEP + c if c else c for c in author.last_comments]
    found = [STEP + r if r else r for r in (*lines, *last)]
    while not found[-1].strip():
        found.pop()
    return found


def parameter_as_written(parameter: AuthorParameter, order: int) -> Parameter:
    text, note = parameter.default_text, parameter.annotation
    return Parameter(parameter.name, (None,), None, text, note, parameter.keyword_only, (order,))


def init_as_written(
    author: AuthorClass, numbers: Mapping[Any, float], uses: Mapping[Written, Use]
) -> WrittenInit:
    """The author's constructor and its parameters, with other numbers in its text; no text where it is a parent's."""
    lines = indented_text(author, text_lines(author, numbers, uses)) if author.home is author.cls else []
    parameters = [parameter_as_written(p, n) for n, p in enumerate(author.parameters.values())]
    return WrittenInit(lines, parameters, {}, {})


@dataclass
class ReplayedText:
    """The constructor's text. ``given``: its arguments in the author's network; ``new``: in the pruned one. ``old``:
    all numbers that were read, ``numbers``: those that changed; ``bound``: those that something made of them needs."""

    context: ClassContext
    recorder: Recorder
    new: Sequence[Arguments]
    given: Sequence[Arguments]
    numbers: Mapping[Any, float]
    old: Mapping[Any, float]
    bound: Set[Any]
    uses: Mapping[Written, Use]

    def __post_init__(self) -> None:
        self.author = self.context.author
        self.namer = self.context.namer()
        self.tables: dict[Written, tuple[float, float]] = {}  # numbers in tables that are defaults: before, and now

    def written(self) -> WrittenInit | None:
        author, init = self.author, self.author.init
        assert init is not None
        inherited = author.home is not author.cls
        if self._stale(init) or (inherited and self.context.is_root):
            return None
        parameters = [self._parameter(name, n) for n, name in enumerate(author.parameters)]
        lines = text_lines(author, self.numbers, self.uses) if not inherited else []
        if self.context.is_root:
            if not {p.name for p in parameters} >= set(self.given[0]):
                return None
            header = header_lines(author, parameters)
            lines = [*header, *lines[author.header_end - init.lineno + 1 :]]
        lines = indented_text(author, lines) if lines else []
        return WrittenInit(lines, parameters, self._calls(parameters), dict(self.namer.extra))

    def _stale(self, init: FunctionNode) -> bool:
        """Whether code that didn't run holds a number that is another one where it did."""
        was = {(type(self.old[k]), self.old[k]) for k in self.numbers}
        left = [n for stmt in init.body for n in ast.walk(stmt)
                if isinstance(n, ast.Constant) and (type(n.value), n.value) in was]  # fmt: skip
        return any(Written(self.author.init_file.name, span_of(n)) not in self.old for n in left)

    def _parameter(self, name: str, order: int) -> Parameter:
        author = self.author.parameters[name]
        if name not in self.given[0]:
            return replace(parameter_as_written(author, order), default_text=self._default_now(author))
        vector = tuple(self._term(i, name) for i in range(len(self.new)))
        default, text = term_of_default(author.default, self.author.globals), author.default_text
        value = vector[0]
        if self.context.is_root and (default is None or not same(default, value)):
            if isinstance(value, Given) or not isinstance(value, Lit | Ref):
                raise ValueTextError(f"{name} has no text")
            there = isinstance(value, Lit) and self._in_table(author.default, value.value)
            new = literal(value.value) if isinstance(value, Lit) else self.namer.text(value.value)
            default, text = value, text if there else new
        return Parameter(name, vector, default, text, author.annotation, author.keyword_only, (order,))

    def _in_table(self, default: ast.expr | None, value: Any) -> bool:
        """Whether a default is a table at the top of the file that nothing else reads: its numbers change there."""
        file = self.author.init_file
        stmt = binding(file, default.id) if isinstance(default, ast.Name) else None
        if not isinstance(stmt, ast.Assign) or not isinstance(default, ast.Name) or not isinstance(value, list | tuple):
            return False
        places = [n for n in ast.walk(file.tree) if isinstance(n, ast.Name) and n.id == default.id]
        try:
            found = {Written(file.name, span_of(n)): pair for n, *pair in _pairs(stmt.value, value)}
        except ValueError:
            return False
        if len(places) != 2:  # where it is made, and the default
            return False
        self.tables |= {k: (was, now) for k, (was, now) in found.items()}
        return True

    def _default_now(self, author: AuthorParameter) -> str:
        """The author's text of a default, with other numbers."""
        file, expr = self.author.init_file, author.default
        assert expr is not None
        inside = [k for k in self.numbers if isinstance(k, Written) and k.stands_in(file, span_of(expr))]
        return replaced(file, span_of(expr), [(k.span, literal(self.numbers[k])) for k in inside])

    def _term(self, index: int, name: str) -> Term:
        value = self.new[index][name]
        if is_plain(value):
            return Lit(value)
        if isinstance(value, nn.Module):
            birth = self.context.births[index]
            assert birth is not None
            path = path_of(self.context.tree, birth.arguments[name])
            return self.recorder.module(path, self.context.tree.live[path])
        held = self.context.held_as(index, name)
        slot = self.context.records[index].get(held) if held is not None else None
        if slot is not None and slot.term is not None:
            return slot.term
        given = self.context.given(name)
        if given is None or given[index] is None:
            raise ValueTextError(f"{name} has no text")
        return given[index]  # type: ignore[return-value]

    def _calls(self, parameters: Sequence[Parameter]) -> dict[str, Call]:
        calls = {}
        for i, path in enumerate(self.context.paths):
            args = []
            for p in parameters:
                value = p.vector[i] or Lit(None)
                width = any(a.get(p.name) != b.get(p.name) for a, b in zip(self.new, self.given, strict=True))
                free = isinstance(value, Lit) and type(value.value) is int and value.value == self.given[i].get(p.name)
                free &= (self.author.cls, i, p.name) not in self.bound
                positional = p.default_text is None and not p.keyword_only
                args.append(Arg(p.name, value, p.default, positional, width=width, free=free))
            args += self._more(i, {p.name for p in parameters})
            calls[path] = Call(self.author.cls, tuple(args), (path,))
        return calls

    def _more(self, index: int, names: set[str]) -> Iterator[Arg]:
        """What ``**kwargs`` got, with names of its own."""
        new, given = (one_by_one(self.author.cls, a[index]) for a in (self.new, self.given))
        for name in [n for n in new if n not in names]:
            if name.isdecimal():
                raise ValueTextError("arguments without a name")
            value = new[name]
            term = Lit(value) if is_plain(value) else term_of_value(value, self.context.tree.sources)
            yield Arg(name, term, Lit(None) if name in USUAL else None, width=value != given[name])


def _pairs(node: ast.expr, value: Any) -> Iterator[tuple[ast.expr, float, float]]:
    """Numbers written in a table, with what they are and what they are to be; ValueError where it says more."""
    if isinstance(node, ast.List | ast.Tuple) and isinstance(value, list | tuple) and len(node.elts) == len(value):
        for one, inner in zip(node.elts, value, strict=True):
            yield from _pairs(one, inner)
    elif not isinstance(node, ast.Constant) or type(node.value) is not type(value):
        raise ValueError("not a table of numbers")
    elif node.value != value:
        if type(value) not in (int, float):
            raise ValueError("another word")
        yield node, node.value, value  # type: ignore[misc]
