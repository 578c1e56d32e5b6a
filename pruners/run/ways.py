"""Watches which ways the code of a network takes, and tries those that it doesn't take."""

from __future__ import annotations

import ast
import sys
import traceback
from collections import ChainMap, Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache, partial
from types import CodeType, FrameType, FunctionType
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..places import Site, Span
from . import forks
from .calling import Modules
from .forks import Block, Fork, Function, Left, Unknown, contains, function_of, own_nodes, span_of
from .frames import is_author_file, is_library_file, run, span
from .torch_private import ConvBase, NormBase

_DEPTH = 2  # of ways inside ways that are tried
_GENERATOR = 0x20 | 0x80 | 0x200
_CALLING = torch.nn.modules.module.__file__


@dataclass(frozen=True)
class Way:
    """One of the two ways at a fork: the module whose code it is, the fork's place and number, which of the module's
    visits in a pass (from 0), and which way. ``within``: the way that was being tried."""

    module: str
    file: str
    line: int
    fork: int
    visit: int
    side: int = 0
    within: Way | None = None


@dataclass
class Visit:
    """``open``: inputs can decide; ``taken``: the ways that were taken; ``modules``: those that each way names;
    ``idle``: the ways in which there is nothing to try."""

    fork: Fork
    site: Site
    open: bool
    taken: set[int] = field(default_factory=set)
    modules: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())
    idle: frozenset[int] = frozenset()


class Trying(Protocol):
    """What is done about ways that are tried."""

    def attempt(self, way: Way, site: Site, call: Callable[[], Left], foreign: bool) -> Left | str | None:
        """Runs the way; why it can't be run, if so. ``foreign``: what it is meant for may be other settings, or another
        visit; then None where a layer doesn't fit what it gets."""

    def join(self, first: Any, second: Any, site: Site) -> None:
        """Code behind the fork gets the one or the other."""

    def hold(self, values: Any, site: Site, why: str) -> None:
        """Something may be read by code that can't be run."""


class Watch:
    """``visits``: what was seen of every fork. ``tried``: the ways to try, by ``trying``; ``known``: those that some
    run takes in some visit, as of the first visit."""

    def __init__(
        self, modules: Modules, tried: Collection[Way] = (), trying: Trying | None = None,
        known: Collection[Way] = (),
    ) -> None:  # fmt: skip
        self.modules, self.tried, self.trying, self.known = modules, frozenset(tried), trying, frozenset(known)
        self.visits: dict[Way, Visit] = {}
        self.within: list[Way] = []
        self.stored: set[str] = set()  # attributes that running code gives other values
        self.trains = False  # some code looks at the mode
        self.graded = False  # some code looks at whether gradients are kept
        self.error: BaseException | None = None
        self.frames: dict[FrameType, _Frame] = {}
        self.inherited: dict[int, tuple[Function, frozenset[str], CodeType, CodeType]] = {}  # by identity of code
        self._counts: Counter[Way] = Counter()
        self._functions: dict[int, tuple[Function | None, CodeType]] = {}
        self._files = {f for m in modules.all for cls in type(m).__mro__ if (f := _file_of(cls))}

    @contextmanager
    def watching(self) -> Iterator[None]:
        _instructions_reported()
        before = sys.gettrace()
        sys.settrace(self._called)
        try:
            yield
        finally:
            sys.settrace(before)
            self.frames.clear()
        if self.error is not None:
            raise self.error

    def _called(self, frame: FrameType, event: str, arg: Any) -> Any:
        code = frame.f_code
        if id(code) in self._functions:
            function = self._functions[id(code)][0]
        else:
            function = self._looked_up(frame)
            self._functions[id(code)] = function, code  # keeps the identity alive; a code's own hash takes long
        if function is None or event != "call":
            return None
        known = self.inherited.get(id(code))
        state = self.frames[frame] = _Frame(self, frame, known[0] if known else function)
        frame.f_trace = state.event  # without it Python 3.13 takes no notice of the next line
        frame.f_trace_opcodes, frame.f_trace_lines = bool(state.function.forks), False
        return state.event

    def _looked_up(self, frame: FrameType) -> Function | None:
        code = frame.f_code
        if id(code) in self.inherited:
            return self.inherited[id(code)][0]
        if not is_author_file(code.co_filename) or code.co_flags & _GENERATOR:
            return None
        first = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
        own = id(first) in self.modules.path_of
        if code.co_filename not in self._files and is_library_file(code.co_filename):
            return None
        self.trains |= "training" in code.co_names
        self.graded |= bool({"requires_grad", "is_grad_enabled"} & {*code.co_names})
        function = function_of(code)
        if function is not None and own:
            self.stored |= function.attributes if code.co_name != "__init__" else set()
        return function

    def watched(self, call: Callable[[], Left]) -> Left:
        """Call a way from within a tracing function; Python 3.11 has to be told again that it is to trace."""
        sys.settrace(self._called)
        return call()

    def visit(self, place: Way) -> Way:
        """The place with the number of this visit."""
        self._counts[place] += 1
        return Way(place.module, place.file, place.line, place.fork, self._counts[place] - 1, 0, place.within)


@contextmanager
def unwatched() -> Iterator[None]:
    """Within this block nothing is watched: code of ours runs, and being watched takes time with every call."""
    before = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(before)


@cache
def _instructions_reported() -> None:
    """Python 3.12 tells of single instructions only in functions that are called after the first that asks for them."""

    def asking(frame: FrameType, event: str, arg: Any) -> None:
        frame.f_trace_opcodes = True

    before = sys.gettrace()
    sys.settrace(asking)
    try:
        (lambda: None)()
    finally:
        sys.settrace(before)


def misfit(error: BaseException) -> bool:
    """Whether a layer of torch's failed at what has not the channels that it reads."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        layer, x = frame.f_locals.get("self"), frame.f_locals.get("input")
        if not isinstance(layer, ConvBase | nn.Linear | NormBase) or not isinstance(x, Tensor):
            continue
        read = next(getattr(layer, n) for n in ("in_channels", "in_features", "num_features") if hasattr(layer, n))
        axis = x.ndim - 1 if isinstance(layer, nn.Linear) else x.ndim - layer.weight.ndim + 1
        if isinstance(layer, NormBase):
            axis = 1
        if 0 <= axis < x.ndim and x.shape[axis] != read:
            return True
    return False


def _file_of(cls: type) -> str | None:
    """Where a class is written; a decorator's wrapper of its forward may be written elsewhere."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return file if file and is_author_file(file) else None


@lru_cache(maxsize=4096)
def _table(code: CodeType, function: Function) -> list[tuple[Span | None, tuple[Fork, ...]]]:
    """For each instruction its place, and the forks that it helps to decide."""
    table: list[tuple[Span | None, tuple[Fork, ...]]] = []
    for line, end, column, last in code.co_positions():
        if line is None or end is None or column is None or last is None:
            table.append((None, ()))
            continue
        here = (line, column, end, last)
        table.append((here, tuple(f for f in function.forks if contains(span_of(f.test), here))))
    return table


@dataclass(eq=False)  # what is left holds tensors
class _Pending:
    """A way that was tried and meets the other when the code leaves ``region``, or at the function's return."""

    fork: Fork
    site: Site
    region: Span | None
    left: Left | str


class _Frame:
    """One running function of the author's."""

    def __init__(self, watch: Watch, frame: FrameType, function: Function) -> None:
        self.watch, self.function, self.code = watch, function, frame.f_code
        first = frame.f_locals.get(self.code.co_varnames[0]) if self.code.co_argcount else None
        inside = watch.inherited.get(id(self.code))
        if inside is not None:
            first = frame.f_locals.get("self")
        self.path = watch.modules.path_of.get(id(first), watch.modules.current)
        self.of_module = id(first) in watch.modules.path_of
        self.caller, self.direct = self._called_by(frame)
        self.settled = inside[1] if inside else function.settled(self._parameters(frame))
        self.original = inside[2] if inside else self.code
        self.table: list[tuple[Span | None, tuple[Fork, ...]]] | None = None
        self.testing: dict[int, Way] = {}
        self.pending: list[_Pending] = []
        self.last = -1

    @property
    def busy(self) -> bool:
        """Whether every step matters."""
        return bool(self.testing or self.pending)

    # -- what is known whatever the inputs are

    def _called_by(self, frame: FrameType) -> tuple[FrameType | None, bool]:
        """The author's frame that calls, and whether nothing but torch's calling of modules lies between."""
        above, direct = frame.f_back, True
        while above is not None and above.f_code is not run.__code__:
            if above in self.watch.frames:
                return above, direct
            if is_author_file(above.f_code.co_filename):
                return None, False
            direct &= above.f_code.co_filename == _CALLING
            above = above.f_back
        return None, above is None

    def _parameters(self, frame: FrameType) -> frozenset[str]:
        """The parameters whose values follow from the network alone."""
        code = self.code
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        if self.caller is None:
            return frozenset(names[:1] if self.of_module else ())
        call = self._call_node(self.caller) if self.direct else None
        given = _given(call, names, self.of_module) if call is not None else None
        if given is None:  # called by a container, with one argument
            return frozenset([*(names[:1] if self.of_module else ()), *_left_out(self.function.node, frame)])
        caller = self.watch.frames[self.caller]
        return frozenset(n for n in names if n not in given or caller.is_settled(given[n]))

    def _call_node(self, frame: FrameType) -> ast.Call | None:
        here = span(frame)
        for node in ast.walk(self.watch.frames[frame].function.node):
            if isinstance(node, ast.Call) and span_of(node)[2:] == here[2:] and span_of(node)[:2] <= here[:2]:
                return node
        return None

    def is_settled(self, test: ast.expr) -> bool:
        return forks.settled(test, self.settled, self.function, self.watch.stored)

    # -- events

    def event(self, frame: FrameType, event: str, arg: Any) -> Any:
        try:
            if event == "opcode":
                if self.busy or self.table is None or self.table[frame.f_lasti // 2][1]:
                    self._step(frame)
                else:
                    self.last = frame.f_lasti // 2
            elif event == "return":
                self._returned(frame, arg)
        except BaseException as error:
            self.watch.error = self.watch.error or error
            raise
        return self.event

    def _step(self, frame: FrameType) -> None:
        number = frame.f_lasti // 2
        if self.table is None:
            self.table = _table(self.code, self.function)
        here, tests = self.table[number]
        if here is None:
            return
        again = number <= self.last
        for index, way in list(self.testing.items()):
            fork = next(f for f in self.function.forks if f.number == index)
            if not again and contains(here, fork.region):
                continue  # what Python says of a jump inside a condition is the place of the whole statement
            if fork not in tests or again:
                del self.testing[index]
                self.watch.visits[way].taken.add(_side(fork, here))
        if self.pending:
            over = [p for p in self.pending if p.region is not None and not contains(p.region, here)]
            self.pending = [p for p in self.pending if p not in over]
            for pending in over:
                self._meet(pending, frame)
        for fork in tests:
            if fork.number not in self.testing:
                self._entered(fork, frame)
        self.last = number

    def _entered(self, fork: Fork, frame: FrameType) -> None:
        watch, code = self.watch, self.original
        within = watch.within[-1] if watch.within else None
        place = Way(self.path, code.co_filename, code.co_firstlineno, fork.number, 0, 0, within)
        way = self.testing[fork.number] = watch.visit(place)
        space = ChainMap(frame.f_locals, frame.f_globals)
        truth = forks.outcome(fork.test, self.is_settled, space)
        entirely = truth is None and self.is_settled(fork.test)
        site = Site(code.co_filename, fork.test.lineno, code.co_name)
        idle = frozenset(side for side in (0, 1) if _idle(fork, side, frame))
        visit = Visit(fork, site, truth is None and not entirely, idle=idle)
        watch.visits[way] = visit
        if not visit.open:
            visit.modules = (self._named(fork.ways[0], frame), self._named(fork.ways[1], frame))
        if watch.trying is None:
            return
        for side in (0, 1):
            tried = Way(way.module, way.file, way.line, way.fork, way.visit, side, way.within)
            nested = within is not None and visit.open and side not in idle
            if tried in watch.tried or nested:
                self._try(fork, side, tried, frame)

    def _named(self, block: Block, frame: FrameType) -> frozenset[str]:
        """Modules that a way names."""
        paths = self.watch.modules.path_of
        found = (paths.get(id(v)) for v in _read(block, frame.f_locals, modules=True) if isinstance(v, nn.Module))
        return frozenset(p for p in found if p)

    # -- ways that are tried

    def _try(self, fork: Fork, side: int, way: Way, frame: FrameType) -> None:
        watch, trying = self.watch, self.watch.trying
        assert trying is not None
        block = fork.ways[side]
        site = Site(self.code.co_filename, block[0].lineno if block else fork.test.lineno, self.code.co_name)
        space = {n: forks.own_copy(v) for n, v in frame.f_locals.items()}
        deep = "it lies too deep" if len(watch.within) >= _DEPTH else ""
        left: Left | str | None = forks.unfit(block, space) or deep
        if not left:
            call = forks.runnable(fork, side, self.code, space, frame.f_globals)
            part = self.function.within(self.function.node, fork.region)
            code = call.func.__code__
            watch.inherited[id(code)] = (part, self.settled, self.original, code)
            watch.within.append(way)
            known = replace(way, visit=0, within=None) in watch.known
            foreign = known or not watch.visits[replace(way, side=0)].open
            left = trying.attempt(way, site, partial(sys.call_tracing, watch.watched, (call,)), foreign)
            watch.within.pop()
        if left is None:
            return
        if isinstance(left, str):
            trying.hold(list(_read(block, frame.f_locals)), site, left)
        regions = {"end": fork.region, "return": None}
        how = left.how if isinstance(left, Left) else "return" if fork.returns(side) else _jump(block)
        region = regions[how] if how in regions else _around(fork, how)
        self.pending.append(_Pending(fork, site, region, left))

    def _meet(self, pending: _Pending, frame: FrameType) -> None:
        trying, left, fork = self.watch.trying, pending.left, pending.fork
        assert trying is not None
        names = fork.stored if pending.region == fork.region else fork.stored | fork.rest
        for name in names:
            now = frame.f_locals.get(name)
            if isinstance(left, str):
                trying.hold(now, pending.site, left)
            elif name in left.names and name in frame.f_locals:
                trying.join(left.names[name], now, pending.site)
            elif name in left.names and self.function.reads(name, fork.region):
                trying.hold(left.names[name], pending.site, "")

    def _returned(self, frame: FrameType, value: Any) -> None:
        for way in self.testing.values():
            self.watch.visits[way].taken.add(1)
        pendings, self.pending = self.pending, []
        for pending in pendings:
            left, trying = pending.left, self.watch.trying
            assert trying is not None
            if pending.region is not None:
                self._meet(pending, frame)
                continue
            if isinstance(left, str):
                trying.hold(value, pending.site, left)
            elif self.caller is None and not self.watch.within:
                trying.hold(left.value, pending.site, "")
            else:
                trying.join(left.value, value, pending.site)
        self.watch.frames.pop(frame, None)


def _idle(fork: Fork, side: int, frame: FrameType) -> bool:
    """Whether there is nothing to try in a way: it gives constants to names that hold no tensors, so that no channel
    meets it, is harmless, or looks up what isn't there."""
    notes = fork.notes and not any(forks.pieces(frame.f_locals.get(name)) for name in fork.stored)
    return notes or fork.harmless(side) or fork.beyond(side, frame.f_locals)


def _side(fork: Fork, here: Span) -> int:
    return 0 if any(contains(place, here) for place in fork.places[0]) else 1


def _jump(block: Block) -> str:
    """How a way leaves its block, as far as can be seen."""
    jumps = [n for s in block for n in own_nodes(s) if isinstance(n, ast.Break | ast.Continue)]
    return "break" if any(isinstance(n, ast.Break) for n in jumps) else "continue" if jumps else "end"


def _around(fork: Fork, how: str) -> Span:
    loop = fork.loop
    if loop is None:
        return fork.region
    if how == "break":
        return span_of(loop)
    return (*span_of(loop.body[0])[:2], *span_of(loop.body[-1])[2:])


def _given(call: ast.Call, names: tuple[str, ...], of_module: bool) -> dict[str, ast.expr] | None:
    """Parameter -> the expression that a call gives it; None where that can't be seen."""
    if any(isinstance(a, ast.Starred) for a in call.args) or any(k.arg is None for k in call.keywords):
        return None
    own = names[1:] if of_module and names[:1] == ("self",) else names
    if len(call.args) > len(own):
        return None
    return {**dict(zip(own, call.args, strict=False)), **{k.arg: k.value for k in call.keywords if k.arg is not None}}


def _left_out(node: forks.FunctionNode, frame: FrameType) -> Iterator[str]:
    """The parameters whose value is a plain one that the function's head says."""
    args = node.args
    positional = [*args.posonlyargs, *args.args]
    defaults = [*zip(positional[len(positional) - len(args.defaults) :], args.defaults, strict=True),
                *zip(args.kwonlyargs, args.kw_defaults, strict=True)]  # fmt: skip
    for arg, default in defaults:
        value = frame.f_locals.get(arg.arg)
        if isinstance(default, ast.Constant) and type(default.value) is type(value) and default.value == value:
            yield arg.arg


def _read(block: Block, space: Mapping[str, Any], modules: bool = False) -> Iterator[Any]:
    """What statements may read: values of local names, tensors and modules that they name, also in methods they call.
    ``modules``: those alone."""
    done: set[int] = set()
    todo: list[tuple[ast.AST, Mapping[str, Any]]] = [(s, space) for s in block]
    while todo:
        node, names = todo.pop()
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name) and not modules and isinstance(inner.ctx, ast.Load):
                value = names.get(inner.id)
                if not isinstance(value, nn.Module):
                    yield value
            if not isinstance(inner, ast.Attribute):
                continue
            try:
                value = forks.looked_up(inner, names)
            except Unknown:
                continue
            if isinstance(value, nn.Module):
                yield value
                yield from () if modules else value.parameters()
            elif isinstance(value, Tensor):
                yield value
            elif isinstance(value, FunctionType) and id(value) not in done:
                done.add(id(value))
                found = function_of(value.__code__)
                if found is not None and found.parameters:
                    owner = forks.looked_up(inner.value, names)
                    todo += [(s, {found.parameters[0]: owner}) for s in found.node.body]
