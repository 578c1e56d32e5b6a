"""Where in the author's source an operation was called: file, line and the exact expression."""

from __future__ import annotations

import os
import sys
import sysconfig
import traceback
from collections.abc import Container
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import torch

from ..places import Site
from .isolated import step_by_step

NO_COLUMNS = (
    "was compiled without the places of its expressions; start Python without -X no_debug_ranges and "
    "PYTHONNODEBUGRANGES, and delete the __pycache__ that they left"
)
_TORCH = str(Path(torch.__file__).parent) + os.sep
_ATTENTION = torch.nn.MultiheadAttention.forward.__code__
_STAND_INS = (str(Path(__file__).parents[1] / "slicing" / "stand_ins.py"), torch.nn.modules.transformer.__file__)
_CALLING = torch.nn.modules.module.__file__
_OURS = str(Path(__file__).parents[1]) + os.sep


@lru_cache(maxsize=4096)
def is_author_file(filename: str) -> bool:
    """Whether code of this file is neither torch's nor ours."""
    return not filename.startswith((_TORCH, _OURS, *_einops(), "<"))


@lru_cache(maxsize=1)
def _einops() -> tuple[str, ...]:
    """Where einops lies: its calls count as torch's."""
    found = find_spec("einops")
    return tuple(path + os.sep for path in (found.submodule_search_locations or ())) if found else ()


@lru_cache(maxsize=4096)
def is_library_file(filename: str) -> bool:
    """Whether the file is Python's own or an installed package's, wherever that was installed."""
    return filename.startswith(_libraries(tuple(sys.path)))


@lru_cache(maxsize=4)
def _libraries(path: tuple[str, ...]) -> tuple[str, ...]:
    """Python's own folders, and those of the path where packages are installed: they say which."""
    own = (sysconfig.get_paths()[name] for name in ("purelib", "platlib", "stdlib"))
    others = (folder for folder in path if folder and any(Path(folder).glob("*.dist-info")))
    return tuple(os.path.join(os.path.abspath(folder), "") for folder in (*own, *others))


def run(model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call the model; the author's frames are looked for above this one only."""
    with step_by_step(model):
        return model(*args, **kwargs)


def author_frame() -> FrameType | None:
    """The innermost frame of the running model that is neither torch's nor the toolkit's."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not is_author_file(frame.f_code.co_filename):
        if frame.f_code is run.__code__:
            return None
        frame = frame.f_back
    return frame


def in_stand_in() -> bool:
    """Whether the call that is being handled is made by one of torch's layers that may get a stand-in, or by this."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not run.__code__:
        file = frame.f_code.co_filename
        if file in _STAND_INS or frame.f_code is _ATTENTION:
            return True
        if is_author_file(file):
            return False
        frame = frame.f_back
    return False


def layer_frame(modules: Container[int]) -> FrameType | None:
    """That of the forward of one of torch's own layers, if it calls; ``modules``: the identities of all layers."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not is_author_file(frame.f_code.co_filename) and frame.f_code is not run.__code__:
        if frame.f_code.co_name == "forward" and id(frame.f_locals.get("self")) in modules:
            return frame
        frame = frame.f_back
    return None


def author_site() -> Site:
    """The line of the author's code that is running; an empty file name where none is."""
    frame = author_frame()
    if frame is None:
        return Site("", 0)
    return Site(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name, span(frame))


def forward_site(module: torch.nn.Module) -> Site:
    """Where the module's forward is written; unknown for torch's own."""
    code = getattr(type(module).forward, "__code__", None)
    if code is None or not is_author_file(code.co_filename):
        return Site("", 0)
    return Site(code.co_filename, code.co_firstlineno, "forward")


def site_of(error: BaseException, model: torch.nn.Module | None = None) -> Site | None:
    """The author's line that an exception came from; where it came from the call of ``model``, that of its forward."""
    found, at = None, error.__traceback__
    while at is not None:
        code = at.tb_frame.f_code
        found = None if code is run.__code__ else at if is_author_file(code.co_filename) else found
        at = at.tb_next
    if found is None:
        forward = None if model is None else forward_site(model)
        return forward if forward is not None and forward.file else None
    code = found.tb_frame.f_code
    return Site(code.co_filename, found.tb_lineno, code.co_name, _positions(code)[found.tb_lasti // 2])


def describe(error: BaseException) -> str:
    """One line: the error's type and first line, and the author's file and line it came from, or a library's."""
    site, frames = site_of(error), traceback.extract_tb(error.__traceback__)
    if site is None and frames and not frames[-1].filename.startswith(_OURS) and frames[-1].filename != _CALLING:
        site = Site(frames[-1].filename, frames[-1].lineno or 0)
    return described(error) + (f" ({site})" if site else "")


def described(error: BaseException) -> str:
    """The error's type and first line."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


def span(frame: FrameType) -> tuple[int, int, int, int]:
    """(line, column, end line, end column) of the expression that the frame is executing; columns are 0 where it was
    compiled without them. In a chain over several lines, a method's call starts at the method's name."""
    return _positions(frame.f_code)[frame.f_lasti // 2]


_CACHE: dict[CodeType, list[tuple[int, int, int, int]]] = {}


def _positions(code: CodeType) -> list[tuple[int, int, int, int]]:
    if code not in _CACHE:
        _CACHE[code] = [(a or 0, c or 0, b or 0, d or 0) for a, b, c, d in code.co_positions()]
    return _CACHE[code]
