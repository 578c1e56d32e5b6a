"""Folders for what one process alone needs. They go with it; what one that was killed left, the next one removes.

All of them lie in one folder with a file that is locked as long as its process lives. Imports no torch.
"""

from __future__ import annotations

import importlib.util
import itertools
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from multiprocessing.util import Finalize
from pathlib import Path
from types import ModuleType

from filelock import FileLock, Timeout

_PREFIX = "secateur-run-"
_OLD = 3600.0  # seconds: a younger one may not have its lock yet
_numbers = itertools.count()


@contextmanager
def scratch() -> Iterator[Path]:
    """An empty folder that goes when the block ends. Raises OSError where none can be made."""
    folder = _new_folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def import_file(path: Path) -> ModuleType:
    """A Python file as a module under a name of its own, so that two files of one name never meet."""
    name = f"secateur_generated_{next(_numbers)}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def import_text(text: str) -> ModuleType:
    """The text of a Python file as a module. Its file stays as long as the process: who asks for source reads it."""
    path = _new_folder() / "model.py"
    path.write_text(text, "utf-8")
    return import_file(path)


def _new_folder() -> Path:
    if not _home(tempfile.gettempdir()).is_dir():  # the system has put in order what looked old
        _home.cache_clear()
    return Path(tempfile.mkdtemp(dir=_home(tempfile.gettempdir())))


@cache
def _home(around: str) -> Path:
    """This process's folder; those that are forked from it share it."""
    home = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=around))
    lock = FileLock(home / "lock")
    with suppress(OSError, NotImplementedError):  # then nobody else gets it either, and it stays if we are killed
        lock.acquire()
    Finalize(None, _remove, (home, lock), exitpriority=-100)  # at exit, also of processes that run no atexit
    _sweep(home)
    return home


def _remove(home: Path, lock: FileLock) -> None:
    shutil.rmtree(home, ignore_errors=True)
    lock.release()
    shutil.rmtree(home, ignore_errors=True)  # where a system doesn't remove what is open


def _sweep(mine: Path) -> None:
    """Remove the folders of processes that are no more."""
    owner = mine.stat().st_uid
    for home in mine.parent.glob(f"{_PREFIX}*"):
        with suppress(OSError, Timeout, NotImplementedError):
            told = home.lstat()
            if home.is_symlink() or told.st_uid != owner or time.time() - told.st_mtime < _OLD:
                continue
            with FileLock(home / "lock", timeout=0):
                shutil.rmtree(home, ignore_errors=True)
