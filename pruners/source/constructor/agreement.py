"""Whether what the author's constructor made with other numbers is like the live network."""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ...run import INTERNAL, unsaved_buffers
from ..author import Read, as_term, attribute_reads, is_options, meant, same_options, turns_out_alike
from ..live import (
    CHILD,
    PLAIN,
    Alias,
    Box,
    Call,
    Closure,
    Given,
    Lit,
    Ref,
    Term,
    author_init,
    call_of,
    cells,
    is_plain,
    layers_in,
    same,
    term_of_value,
    torch_base,
)
from .buffer_statements import alike
from .context import ClassContext

Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """What the author's constructor made once more. ``got``: what the modules made with it were given, by identity."""

    module: nn.Module
    got: Mapping[int, Arguments]


def one_by_one(function: Any, given: Arguments) -> dict[str, Any]:
    """What a function was given, with each value that ``*args`` and ``**kwargs`` hold under a name of its own."""
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name in given and parameter.kind is parameter.VAR_KEYWORD:
            found |= given[name]
        elif name in given and parameter.kind is parameter.VAR_POSITIONAL:
            found |= {str(i): value for i, value in enumerate(given[name])}
        elif name in given:
            found[name] = given[name]
    return found


class Agreement:
    """Whether a module that the author's constructor made is like the live one, up to blocks of other classes, which
    have to get what their written constructors take. ``read``: the numbers in the author's files now."""

    def __init__(self, context: ClassContext, index: int, run: Run, handed: Set[int], read: Read) -> None:
        self.context = context
        self.record = context.records[index]
        self.base = context.bases[index]
        self.live = context.live[index]
        self.path = context.paths[index]
        self.run = run
        self.handed = handed
        self.read = read
        self.twins: dict[int, int] = {}

    def holds(self) -> bool:
        live, made = self.live, self.run.module
        made.training = live.training  # which no constructor decides
        self._twins(live, made)
        if list(live._modules) != list(made._modules) or not self._tensors(live, made):
            return False
        if isinstance(self.base, Box) and not self._items(self.base, live, made):
            return False
        if isinstance(self.base, Call):
            base = call_of(made, "", self.context.tree.dtype, self.base.fn)
            if not _same_arguments(base, self.base):
                return False
        children = {n: s.term for n, s in self.record.items() if s.kind == CHILD}
        if not all(t is not None and self._module(t, live._modules[n], made._modules[n]) for n, t in children.items()):
            return False
        if len(set(self.twins.values())) < len(self.twins):
            return False
        plain = [n for n in vars(live) if n in self.context.running and n not in INTERNAL]
        outside = set() if set(plain) <= set(vars(made)) else self.context.from_outside(live)
        plain = [n for n in plain if n in vars(made) or n not in outside]
        terms = {n: s.term for n, s in self.record.items() if n in plain and isinstance(s.term, Closure)}
        plain = [n for n in plain if not (n in vars(made) and n in self.context.idle_counts(self.path))]
        if not all(n in vars(made) and self._holds(n, terms.get(n)) for n in plain):
            return False
        added = {n: s.term for n, s in self.record.items() if s.kind == PLAIN and n not in vars(live)}
        if not all(n in vars(made) and same(Lit(vars(made)[n]), t) for n, t in added.items() if t is not None):
            return False
        if self.context.is_root and not self._set_from_outside():
            return False
        return all(map(self._turns_out, self.context.tests))

    def _set_from_outside(self) -> bool:
        """Whether all modules have the plain attributes that running code reads and that others put on them."""
        made = dict(self.run.module.named_modules())
        return all(
            alike(vars(made.get(path, self.live)).get(n), vars(module)[n])
            for path, module in self.live.named_modules()
            if vars(module).keys() & self.context.running - INTERNAL
            for n in self.context.from_outside(module) & self.context.running
            if is_plain(vars(module)[n])
        )

    def _turns_out(self, test: ast.expr) -> bool:
        """Whether a condition on attributes has the outcome that it has in the author's network."""
        known = turns_out_alike(test, self.live, self.run.module)
        if known is not None:
            return known
        live, made = vars(self.live), vars(self.run.module)
        return all(alike(made.get(n), live.get(n)) for n in attribute_reads(test))

    def _twins(self, live: nn.Module, made: nn.Module) -> bool:
        return self.twins.setdefault(id(live), id(made)) == id(made)

    def _module(self, term: Term, live: nn.Module | None, made: nn.Module | None) -> bool:
        if live is None or made is None:
            return live is made
        if type(live) is not type(made) or not self._twins(live, made):
            return False
        if isinstance(term, Alias) or id(made) in self.handed:
            return True
        if isinstance(term, Box):
            return self._items(term, live, made)
        return isinstance(term, Call) and self._call(term, live, made)

    def _items(self, term: Box, live: nn.Module, made: nn.Module) -> bool:
        if list(live._modules) != list(made._modules):
            return False
        return all(self._module(i.value, live._modules[i.name], made._modules[i.name]) for i in term.items)

    def _call(self, term: Call, live: nn.Module, made: nn.Module) -> bool:
        tree, cls = self.context.tree, type(live)
        torchs = author_init(cls) is None and torch_base(cls) is not nn.Module
        if torchs or (cls not in tree.instances and cls not in tree.imported):
            own = call_of(made, "", tree.dtype)
            return own.fn is term.fn and _same_arguments(own, term) and self._tensors(live, made)
        got = one_by_one(term.fn, self.run.got.get(id(made), {}))
        wanted = {a.name: a for a in term.args}
        if list(wanted) != list(got):
            return False
        other = [n for n in wanted if not self._handed(wanted[n].value, got[n])]
        return not other or (all(wanted[n].free for n in other) and self._alike_within(live, made))

    def _alike_within(self, live: nn.Module, made: nn.Module) -> bool:
        """Whether a module and all in it are like the live ones, whatever their constructors got."""
        pairs = list(zip(live.named_modules(), made.named_modules(), strict=False))
        if len(list(live.modules())) != len(list(made.modules())):
            return False
        return all(
            p == q and type(a) is type(b) and self._twins(a, b) and self._tensors(a, b)
            and all(alike(vars(b).get(n), v) for n, v in vars(a).items()
                    if n in self.context.running and n not in INTERNAL)
            for (p, a), (q, b) in pairs
        )  # fmt: skip

    def _handed(self, term: Term, value: Any) -> bool:
        if is_options(value):  # made at one place, perhaps with numbers that only other classes read
            if isinstance(term, Call):
                return not term.paths and getattr(term.fn, "__qualname__", "") == type(value).__qualname__
            if isinstance(term, Lit | Given | Ref) and same_options(value, term.value):
                return True
        if isinstance(term, Lit | Ref):
            return same(as_term(value), term)
        if isinstance(term, Given):
            return alike(value, term.value)
        if isinstance(term, Closure):
            return self._says(value, term)
        if isinstance(term, Call) and not term.paths and not isinstance(value, nn.Module):
            return same(term_of_value(value, self.context.tree.sources), term)
        if isinstance(value, nn.Module) and isinstance(term, Call | Box) and term.paths and term.paths[0] is not None:
            return self._module(term, self.context.tree.live[term.paths[0]], value)
        own = self.context.term_of(value)
        return own is not None and same(own, term)

    def _tensors(self, live: nn.Module, made: nn.Module) -> bool:
        if list(live._parameters) != list(made._parameters) or list(live._buffers) != list(made._buffers):
            return False
        if unsaved_buffers(live) != unsaved_buffers(made):
            return False
        dtype = self.context.tree.entry.dtype
        pairs: list[tuple[Any, Any]] = [(t, made._parameters[n]) for n, t in live._parameters.items()]
        pairs += [(t, made._buffers[n]) for n, t in live._buffers.items()]
        if not all(_like(a, b, dtype is None) for a, b in pairs):
            return False
        exact = [n for n in unsaved_buffers(live) - self.context.tree.changing if live._buffers[n] is not None]
        return all(alike(made._buffers[n], live._buffers[n]) for n in exact)

    def _says(self, made: Any, term: Closure) -> bool:
        """Whether a function that the constructor made is that of the term, with its numbers."""
        if not isinstance(made, types.FunctionType) or _place(made.__code__) != _place(term.code):
            return False
        for expr, arg, template in zip(term.exprs, term.args, term.templates, strict=True):
            value = meant(expr, term.file, made, self.read) if template else cells(made).get(arg.name)
            if not self._handed(arg.value, value):
                return False
        return True

    def _holds(self, name: str, term: Closure | None) -> bool:
        """Whether an attribute is what it has to be; of a record the numbers may be others that compare alike."""
        live, made = vars(self.live)[name], vars(self.run.module)[name]
        if self._value(live, made, term):
            return True
        return term is None and self.context.may_change(name, live, made) and same_options(made, live)

    def _value(self, live: Any, made: Any, term: Closure | None) -> bool:
        if term is not None:
            return made is live or self._says(made, term)
        if isinstance(live, nn.Module) and isinstance(made, nn.Module):
            return self._twins(live, made)
        return not any(layers_in(live)) and alike(made, live)


def _place(code: types.CodeType) -> tuple[Any, ...]:
    """The file, name and last expression of a function."""
    return code.co_filename, code.co_qualname, list(code.co_positions())[-1]


def _same_arguments(first: Call, second: Call) -> bool:
    pairs = zip(first.args, second.args, strict=False)
    return len(first.args) == len(second.args) and all(same(a, b) for a, b in pairs)


def _like(live: torch.Tensor | None, made: torch.Tensor | None, dtype: bool) -> bool:
    if live is None or made is None:
        return live is made
    alike_ = live.shape == made.shape and live.requires_grad == made.requires_grad and type(live) is type(made)
    return alike_ and (live.dtype == made.dtype or not dtype)
