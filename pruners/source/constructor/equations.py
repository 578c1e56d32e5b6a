"""What the numbers in an author's code have to be, so that his constructors give what the live modules have."""

from __future__ import annotations

import types
from collections.abc import Hashable, Iterator, Sequence
from functools import partial
from typing import Any

from torch import nn

from ..author import Equation, Read, Traced, TracedFloat, Written, meant
from ..live import AXES, CHILD, PLAIN, Box, Call, Closure, Display, Lit, Term, is_authored, is_torch
from .agreement import Run, one_by_one
from .context import ClassContext


def twins(context: ClassContext, index: int, run: Run) -> Iterator[tuple[str, nn.Module, nn.Module, nn.Module | None]]:
    """Modules that a run made, by path, with those of the live network and of the author's."""
    birth, live = context.births[index], dict(context.live[index].named_modules())
    first = dict(birth.module.named_modules()) if birth is not None else {}
    for path, made in run.module.named_modules():
        if path in live:
            yield path, made, live[path], first.get(path)


def equations_of(context: ClassContext, index: int, run: Run, read: Read) -> Iterator[Equation]:
    """What each number has to be that a layer, a block or an attribute got, or that a function holds."""
    idle = context.idle_counts(context.paths[index])
    for name, slot in context.records[index].items():
        if slot.kind == CHILD and slot.term is not None:
            yield from _in_module(slot.term, run.module._modules.get(name), run, read)
        elif slot.kind == PLAIN and name in context.running - idle and slot.term is not None:
            yield from _in_value(slot.term, vars(run.module).get(name), read)
    base = context.bases[index]
    if isinstance(base, Box):
        yield from _in_module(base, run.module, run, read)
    elif base is not None:  # what a torch layer got it has as attributes
        for arg in base.args:
            yield from _in_value(arg.value, vars(run.module).get(arg.name), read, axes=True)


def _in_module(term: Term, made: nn.Module | None, run: Run, read: Read) -> Iterator[Equation]:
    if isinstance(term, Box) and made is not None:
        for item in term.items:
            yield from _in_module(item.value, made._modules.get(item.name), run, read)
    elif isinstance(term, Call) and made is not None:
        got = one_by_one(term.fn, run.got.get(id(made), {}))
        for arg in term.args:
            value = got.get(arg.name)
            if isinstance(value, nn.Module):
                yield from _in_module(arg.value, value, run, read)
            elif not arg.free:
                yield from _in_value(arg.value, value, read, arg.name in AXES)


def _in_value(term: Term, value: Any, read: Read, axes: bool = False) -> Iterator[Equation]:
    wanted: Any = term.value if isinstance(term, Lit) else None
    whole, ratio = isinstance(value, Traced), isinstance(value, TracedFloat)
    if (whole and type(wanted) is int) or (ratio and type(wanted) is float):
        yield value, wanted
    elif type(value) in (list, tuple) and type(wanted) in (list, tuple) and len(value) == len(wanted):
        for inner, one in zip(value, wanted, strict=True):
            yield from _in_value(Lit(one), inner, read)
    elif type(value) in (list, tuple) and type(wanted) is int and axes:
        for inner in value:
            yield from _in_value(term, inner, read)
    elif isinstance(term, Display) and type(value) in (list, tuple) and len(value) == len(term.items):
        for item, inner in zip(term.items, value, strict=True):
            yield from _in_value(item, inner, read)
    elif isinstance(term, Call) and term.fn is partial and isinstance(value, partial):
        for arg, inner in zip(term.args, (value.func, *value.args, *value.keywords.values()), strict=False):
            yield from _in_value(arg.value, inner, read)
    elif isinstance(term, Closure) and isinstance(value, types.FunctionType):
        for expr, arg, template in zip(term.exprs, term.args, term.templates, strict=True):
            if template:
                yield from _in_value(arg.value, meant(expr, term.file, value, read), read)


def sizes_made(context: ClassContext, index: int, run: Run) -> Iterator[Equation]:
    """What each number that a layer of torch's got has to be."""
    for _, made, live, _ in twins(context, index, run):
        for name, value in run.got.get(id(made), {}).items() if type(live) is type(made) else ():
            wanted = vars(live).get(name)
            wanted = wanted[0] if name == "normalized_shape" and isinstance(wanted, tuple) else wanted
            if isinstance(value, Traced) and type(wanted) is int and is_torch(type(made)):
                yield value, wanted


def changed_numbers(context: ClassContext, index: int, run: Run) -> Iterator[Equation]:
    """What attributes that count channels where the network runs have to be."""
    for _, made, live, first in twins(context, index, run):
        for name, value in vars(made).items() if first is not None and is_authored(type(made)) else ():
            was, now = vars(first).get(name), vars(live).get(name)
            if isinstance(value, Traced) and type(was) is int and type(now) is int and was != now:
                yield value, now


def namesakes(context: ClassContext, runs: Sequence[Run], known: Sequence[Equation]) -> list[Equation]:
    """Of attributes that only scripts read and that are written as a number of their own, ``self.out_channels = 64``:
    what layers have now that had this number under this name."""
    read = frozenset[Hashable]().union(*(value.reads for value, _ in known))
    found: list[Equation] = []
    for birth, live, run in zip(context.births, context.live, runs, strict=True):
        for name, value in vars(run.module).items():
            alone = isinstance(value, Traced) and len(value.reads) == 1 and not value.reads & read
            if alone and context.may_follow(name) and all(isinstance(k, Written) for k in value.reads):
                now = dict(live.named_modules())
                layers = birth.module.named_modules() if birth is not None else ()
                sizes = {vars(now[p]).get(name) for p, m in layers if is_torch(type(m)) and p in now
                         and vars(m).get(name) == int(value)}  # fmt: skip
                found += [(value, s) for s in sizes if len(sizes) == 1 and type(s) is int]
    return found
