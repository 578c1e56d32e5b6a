"""How each module of the tree was made: the factory is called once more, and each module's maker is noted.

Names, conditions and the order of the author's ``__init__`` are found from the place of the call that made a module, so
loops, helper functions and lists need no guessing. Only code that already ran is run, on fresh modules, with the state
of the random generators put back.
"""

from __future__ import annotations

import ast
import inspect
import logging
import random
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, lru_cache, wraps
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from ...entry import Entry
from ...run import describe, described, settle_alike, unloaded, unwrapped
from ..text import Position, code_of, parameters_of
from .undrawn import Undrawn

log = logging.getLogger(__name__)
T = TypeVar("T")
_LOCK = threading.Lock()
_SEED = 918273645
_LOST = "the written file loses the names, conditions and order of its code"


@dataclass(frozen=True)
class Frame:
    """One function that was running when a module was made, and the end of the call in it. ``numbers``: its local names
    that were numbers or words then."""

    file: str
    function: str
    first_line: int
    end: Position
    owner: nn.Module | None = field(repr=False)
    numbers: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Birth:
    """``frames``: who made the ``module``, innermost first. ``arguments``, ``locals``: what ``__init__`` got and left.
    ``made_as``: the class that was called, which a lazy layer leaves when it gets its sizes."""

    frames: tuple[Frame, ...]
    arguments: Mapping[str, Any] = field(repr=False)
    locals: Mapping[str, Any] = field(repr=False)
    module: nn.Module = field(repr=False)
    made_as: type

    def made_by(self, owner: nn.Module) -> int | None:
        """Index of the frame of ``owner.__init__`` that led to this module (the outermost one), if any."""
        found = [i for i, f in enumerate(self.frames) if f.owner is owner and f.function == "__init__"]
        return found[-1] if found else None

    def line_in(self, owner: nn.Module) -> int | None:
        """The line of the owner's constructor that led to this module."""
        depth = self.made_by(owner)
        return self.frames[depth].end[0] if depth is not None else None


Births = Mapping[str, Birth]
Arguments = Mapping[str, Any]


def observe(entry: Entry, model: nn.Module) -> dict[str, Birth]:
    """Births by module path, for those modules of ``model`` that a new call of the factory makes again."""
    recorder = _Recorder()
    if lacking := _lacking(entry):
        cls, given = entry.factory.__name__, ", ".join(f'"{name}": ...' for name in lacking)
        _remark(f"{cls} can't be called again, as nobody said its {', '.join(lacking)}: {_LOST}; "
                f"secateur.Entry({cls}, {{{given}}}) as entry= says it")  # fmt: skip
        return {}
    try:
        with undisturbed(), recorder.watching():
            twin = entry.factory(**dict(entry.kwargs))
            if isinstance(twin, nn.Module):
                twin, _ = unwrapped(twin)
                unloaded(twin)
                settle_alike(twin, model)
    except Exception as error:  # the author's code may raise anything
        _remark(f"{entry.name} can't be called a second time ({describe(error)}): {_LOST}")
        return {}
    if not isinstance(twin, nn.Module):
        return {}
    live = dict(model.named_modules(remove_duplicate=False))
    births = {}
    first: dict[int, str] = {}
    for path, module in twin.named_modules(remove_duplicate=False):
        if first.setdefault(id(module), path) != path and module.state_dict():
            continue  # shared weights; where they belong is said by their first place
        same = path in live and _class_name(live[path]) == _class_name(module)
        if same and id(module) in recorder.births:
            births[path] = recorder.birth(module)
    return births


def _lacking(entry: Entry) -> list[str]:
    """The arguments that the factory can't be called without, and that aren't known."""
    parameters = parameters_of(entry.factory).values()
    free = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in free and p.name not in entry.kwargs]


@lru_cache(maxsize=64)
def _remark(message: str) -> None:
    """Says it once, however often the source is written."""
    log.warning(message)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Runs author's code without warnings and without touching anybody's random numbers or default type. Random weights
    are not drawn: nobody reads them."""
    dtype, python, arrays = torch.get_default_dtype(), random.getstate(), np.random.get_state()
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), Undrawn():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)
            random.setstate(python)
            np.random.set_state(arrays)


def attempted(what: str | ast.AST, call: Callable[[], T]) -> T | None:
    """What a call gives in which author's code may raise anything, as it meets values that it wasn't written for; None
    where it does. ``what``: what isn't so then, for the log."""
    try:
        return call()
    except Exception as error:
        log.info("%s: %s", what if isinstance(what, str) else ast.unparse(what), described(error))
        return None


@contextmanager
def loading_nothing() -> Iterator[None]:
    """Within this block loading weights fails: those that a factory knows are of other widths."""

    def load(*_: Any, **__: Any) -> None:
        raise ValueError("it loads weights")

    before = nn.Module.load_state_dict
    nn.Module.load_state_dict = load  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.load_state_dict = before  # type: ignore[method-assign]


def reseeded() -> None:
    """What is drawn by chance from now on is not what the author's code drew."""
    torch.default_generator.manual_seed(_SEED)
    random.seed(_SEED)
    np.random.seed(_SEED)


def _class_name(module: nn.Module) -> tuple[str, str]:
    return type(module).__module__, type(module).__qualname__


class _Recorder:
    def __init__(self) -> None:
        self.births: dict[int, tuple[nn.Module, type, tuple[Frame, ...]]] = {}
        self.arguments: dict[int, dict[str, Any]] = {}
        self.locals: dict[int, dict[str, Any]] = {}

    def birth(self, module: nn.Module) -> Birth:
        _, made_as, frames = self.births[id(module)]
        return Birth(frames, self.arguments.get(id(module), {}), self.locals.get(id(module), {}), module, made_as)

    @contextmanager
    def watching(self) -> Iterator[None]:
        original: Callable[..., None] = nn.Module.__init__
        recorder, profile = self, sys.getprofile()

        def init(module: nn.Module, *args: Any, **kwargs: Any) -> None:
            if id(module) not in recorder.births:
                recorder.births[id(module)] = (module, type(module), _frames(module))
            original(module, *args, **kwargs)

        with _LOCK:
            nn.Module.__init__ = init  # type: ignore[method-assign,assignment]
            sys.setprofile(self._profile)
            try:
                yield
            finally:
                _resume(profile)
                nn.Module.__init__ = original  # type: ignore[method-assign]

    def _profile(self, frame: types.FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if code.co_name != "__init__" or event not in ("call", "return"):
            return
        owner = _owner(frame)
        if owner is None or code is not code_of(type(owner).__init__):
            return
        if event == "call":
            self.arguments[id(owner)] = {k: v for k, v in frame.f_locals.items() if k != code.co_varnames[0]}
        else:
            self.locals[id(owner)] = dict(frame.f_locals)


def _resume(profile: Any) -> None:
    """Whoever profiled goes on; Python's own profiler, which can't be called, by itself."""
    if hasattr(profile, "enable"):
        profile.enable()
    else:
        sys.setprofile(profile)


def _owner(frame: types.FrameType) -> nn.Module | None:
    code = frame.f_code
    first = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
    return first if isinstance(first, nn.Module) else None


def _frames(module: nn.Module) -> tuple[Frame, ...]:
    frame: types.FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code.co_name == "__init__" and _owner(frame) is module:
        frame = frame.f_back
    found = []
    while frame is not None and frame.f_code is not observe.__code__:
        code, end = frame.f_code, _call_end(frame.f_code, frame.f_lasti)
        numbers = {n: v for n, v in frame.f_locals.items() if type(v) in (bool, int, float, str)}
        found.append(Frame(code.co_filename, code.co_name, code.co_firstlineno, end, _owner(frame), numbers))
        frame = frame.f_back
    return tuple(found)


@lru_cache(maxsize=4096)
def _call_end(code: types.CodeType, instruction: int) -> Position:
    _, end_line, _, end_col = next(islice(code.co_positions(), instruction // 2, None))
    return end_line or 0, end_col or 0


def called_with(cls: Callable[..., Any], arguments: Arguments) -> Any:
    """What a class or function makes with arguments by name, ``*args`` and ``**kwargs`` among them."""
    bound = inspect.signature(cls).bind_partial()
    bound.arguments.update(arguments)
    return cls(*bound.args, **bound.kwargs)


def constructed(
    cls: Callable[..., nn.Module], arguments: Arguments, kinds: Set[type]
) -> tuple[nn.Module, Mapping[int, Arguments]]:
    """A module made with these arguments, and by the identity of the modules of these ``kinds`` made with it what each
    of them got."""
    with undisturbed(), _asking(kinds) as got:
        reseeded()
        made = called_with(cls, arguments)
    return made, got


@contextmanager
def _asking(kinds: Set[type]) -> Iterator[dict[int, Arguments]]:
    """Within this block notes what the constructors of these classes are given. A profile, as ``_Recorder`` has, sees
    every call that they make, and costs as much as they do."""
    got: dict[int, Arguments] = {}
    owners = {next(c for c in kind.__mro__ if "__init__" in vars(c)) for kind in kinds}
    with _LOCK, ExitStack() as undo:
        for owner in (o for o in owners if isinstance(vars(o)["__init__"], types.FunctionType)):
            undo.callback(setattr, owner, "__init__", vars(owner)["__init__"])
            owner.__init__ = _noting(vars(owner)["__init__"], got)  # type: ignore[misc]
        yield got


def _noting(init: types.FunctionType, got: dict[int, Arguments]) -> Callable[..., None]:
    @cache
    def takes() -> inspect.Signature:
        return inspect.signature(init)

    @wraps(init)
    def noting(module: nn.Module, *args: Any, **kwargs: Any) -> None:
        if type(module).__init__ is noting:
            with suppress(TypeError):  # which its own call raises
                bound = takes().bind(module, *args, **kwargs)
                bound.apply_defaults()
                got[id(module)] = dict(islice(bound.arguments.items(), 1, None))
        init(module, *args, **kwargs)

    return noting
