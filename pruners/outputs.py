"""Where results go: what may be written over, who writes there now, and how it is exchanged in one step.

While a run writes ``OUT`` there is a folder ``.OUT.secateur`` beside it: a lock, and the draft of what is to come. It
goes when the run ends. What a run that was killed left in it is removed, or put in its place, by the next one. Imports
no torch.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from .errors import BundleExistsError, OutputError, ResumeError, some

_BUNDLE = {
    "weights.pth", "plan.json", "summary.json", "details.json", "report.html", "search.jsonl", "optimizer.pth",
}  # fmt: skip
_QUANTIZED = {"weights.pth", "quantization.json"}
_DISPOSABLE = {".DS_Store", "Thumbs.db", "desktop.ini"}  # of file managers
_DRAFT, _OLD, _GONE = "draft", "old", "gone"
_EXCHANGE = {"linux": ("renameat2", -100), "darwin": ("renameatx_np", -2)}  # and the number of the current folder
_mine: set[tuple[Path, int]] = set()


# -- what may be written over


def check_free(output: Path, force: bool) -> None:
    """Refuse early what could not be published late, and what would be lost."""
    settle(output)
    try:
        if not output.exists():
            return
        own, strange = contents(output)
        if strange and not own:
            raise BundleExistsError(
                f"{output} exists and is no bundle, it holds {_some(strange)}: only a bundle is ever written over; "
                "choose another folder with -o"
            )
        if strange:
            raise BundleExistsError(
                f"{output} holds {_some(strange)} beside the bundle's own files, which would be lost: move it away, or "
                "choose another folder with -o"
            )
    except OSError as error:
        raise unwritable(output, error) from None
    if not force:
        raise BundleExistsError(
            f"{output} exists{_holds(output)}; choose another folder with -o, or overwrite it with --force"
        )


def _holds(output: Path) -> str:
    """Which bundle a folder holds, in a few words."""
    file = output / "summary.json"
    summary = _object(file)
    params = summary.get("params")
    if not isinstance(params, dict) or not all(isinstance(params.get(k), int) for k in ("before", "after")):
        return ""
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(file.stat().st_mtime))
    return f" ({summary.get('factory')}, {params['after']:,} of {params['before']:,} parameters, written {when})"


def _refuse_places(output: Path) -> None:
    if output.is_symlink():
        raise OutputError(f"{output} is a link to {os.readlink(output)}; name a folder itself with -o")
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output} is a file, not a folder; choose another folder with -o")
    whole = output.resolve()
    for what, folder in (("the current folder", Path.cwd()), ("your home folder", Path(os.path.expanduser("~")))):
        if whole == folder.resolve() or whole in folder.resolve().parents:
            holds = "is" if whole == folder.resolve() else "holds"
            raise OutputError(f"{output} {holds} {what}, which is never written over; name a new folder with -o")
    if output.name in ("", "..") or os.path.ismount(output):
        raise OutputError(f"{output} can't be written over; name a new folder with -o")
    first = next((p for p in whole.parents if os.path.lexists(p)), whole)
    if not first.is_dir():
        raise OutputError(f"{output} can't be written: {first} is a file, not a folder; choose another folder with -o")
    if not os.access(first, os.W_OK | os.X_OK):
        raise unwritable(output, PermissionError(errno.EACCES, ""))


def contents(folder: Path) -> tuple[list[str], list[str]]:
    """The names of the files in a folder that are a bundle's, or of what ``quantize`` writes, and of all others."""
    names = sorted(p.name for p in folder.iterdir() if not _is_disposable(p))
    known = _BUNDLE | _written(folder) if _is_bundle(folder) else _QUANTIZED if _is_quantized(folder) else set()
    own = [n for n in names if n in known and not (folder / n).is_dir()]
    return own, [n for n in names if n not in own]


def _is_disposable(path: Path) -> bool:
    """What Python and file managers leave in a folder somebody looked into."""
    if path.name == "__pycache__" and path.is_dir() and not path.is_symlink():
        return all(p.suffix == ".pyc" for p in path.iterdir())
    return path.name in _DISPOSABLE and path.is_file()


def _is_bundle(folder: Path) -> bool:
    plan, summary = _object(folder / "plan.json"), _object(folder / "summary.json")
    return plan.get("schema") == 1 and isinstance(plan.get("widths"), dict) and summary.get("schema") == 1 and (
        isinstance(summary.get("factory"), str) and bool(_written(folder))
    )  # fmt: skip


def _written(folder: Path) -> set[str]:
    """The name of a bundle's generated file, or those of a folder that a library opens; empty where what the summary
    says are no such names."""
    summary = _object(folder / "summary.json")
    name, names = summary.get("file", "model.py"), summary.get("files")
    if isinstance(names, list) and name in names and all(isinstance(n, str) and Path(n).name == n for n in names):
        return set(names)
    return {name} if isinstance(name, str) and name.endswith(".py") and Path(name).name == name else set()


def _is_quantized(folder: Path) -> bool:
    facts = _object(folder / "quantization.json")
    return facts.get("schema") == 1 and "weights_before" in facts


def _object(path: Path) -> dict[str, Any]:
    """What a JSON file holds; nothing where it is no object."""
    try:
        found = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _some(names: list[str]) -> str:
    return some([n if n.isprintable() else ascii(n) for n in names])


# -- who writes there now


@contextmanager
def held(output: Path, wait: float = 0.2) -> Iterator[Path]:
    """Nobody else writes ``output`` within this block. Gives the folder for what goes when the block ends.

    Blocks of one thread may lie in each other. What a run that was killed left is put in order first. Raises UsageError
    where another run holds it for ``wait`` seconds, OutputError where nothing can be written there.
    """
    place = _absolute(output)
    state = _state(place)
    key = state, threading.get_ident()
    if key in _mine:
        yield state
        return
    lock = _locked(state, output, wait)
    _mine.add(key)
    try:
        try:
            _put_in_order(place, state)
        except OSError as error:
            raise unwritable(output, error) from None
        yield state
    finally:
        _mine.discard(key)
        for name in (_DRAFT, _OLD, _GONE):
            shutil.rmtree(state / name, ignore_errors=True)
        with suppress(OSError):
            (state / "lock").unlink()  # while it is held: who waits for it notices
        lock.release()
        for name in ("lock", ""):  # a system that doesn't remove what is open does it now
            with suppress(OSError):
                (state / name).unlink() if name else state.rmdir()


def settle(output: Path) -> None:
    """Put in order what a run that was killed left. Raises UsageError where another run writes ``output`` now,
    OutputError where no folder can be written."""
    try:
        _refuse_places(output)
        left = _state(_absolute(output)).exists()
    except OSError as error:
        raise unwritable(output, error) from None
    if left:
        with held(output):
            pass


def discard(folder: Path, state: Path) -> None:
    """Remove a folder in one step, as seen from outside."""
    with suppress(OSError):
        folder.rename(state / _GONE)
        folder = state / _GONE
    shutil.rmtree(folder, ignore_errors=True)


def _absolute(output: Path) -> Path:
    return output.parent.resolve() / output.name


def _state(place: Path) -> Path:
    if not place.name:
        raise OutputError(f"{place} can't be written over; name another place with -o")
    return place.with_name(f".{place.name}.secateur")


def _locked(state: Path, output: Path, wait: float) -> FileLock:
    lock = FileLock(state / "lock", timeout=wait)
    for last in (False, False, True):
        try:
            state.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            return lock
        except Timeout:
            raise ResumeError(f"another run is writing {output}: wait for its end, or name another with -o") from None
        except OSError as error:
            if last or not isinstance(error, FileNotFoundError):  # else it was removed by who held it
                raise unwritable(output, error) from None
    raise AssertionError("not reached")


def _put_in_order(place: Path, state: Path) -> None:
    draft, old = state / _DRAFT, state / _OLD
    if old.exists() and not os.path.lexists(place):  # killed between two renames: the draft was complete
        (draft if draft.exists() else old).rename(place)
    for left in (draft, old, state / _GONE):
        shutil.rmtree(left, ignore_errors=True)


# -- writing


@contextmanager
def published(output: Path, force: bool) -> Iterator[Path]:
    """A folder to fill; when the block ends well it becomes ``output`` in one step, else it is removed.

    Raises BundleExistsError without ``force`` and where something would be lost, UsageError where another run writes
    there, OutputError for a read-only folder or a full disk.
    """
    check_free(output, force)
    with held(output) as state:
        draft = state / _DRAFT
        try:
            draft.mkdir()
            yield draft
            _refuse_places(output)
            if output.exists():
                check_free(output, force)  # something may have been put there meanwhile
            _put_in_place(draft, _absolute(output), state / _OLD)
        except OSError as error:
            raise unwritable(output, error) from error


def _put_in_place(draft: Path, place: Path, old: Path) -> None:
    if not os.path.lexists(place):
        draft.rename(place)
    elif not _exchanged(draft, place):
        place.rename(old)
        try:
            draft.rename(place)
        except OSError:
            old.rename(place)
            raise


def _exchanged(one: Path, other: Path) -> bool:
    """Let two folders change places in one step, where the system can."""
    name, here = _EXCHANGE.get(sys.platform, ("", 0))
    call = getattr(ctypes.CDLL(None, use_errno=True), name, None) if name else None
    if call is None:
        return False
    call.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    if call(here, os.fsencode(one), here, os.fsencode(other), 2) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):  # not on this file system
        return False
    raise OSError(code, os.strerror(code), str(other))


@contextmanager
def published_file(output: Path) -> Iterator[Path]:
    """A file to write, of the same name elsewhere; when the block ends well it becomes ``output`` in one step, else it
    is removed. Raises UsageError where another run writes there, OutputError for a read-only folder or a full disk."""
    with held(output) as state:
        try:
            draft = state / _DRAFT / output.name
            draft.parent.mkdir()
            yield draft
            with open(draft, "rb+") as file:
                to_disk(file)
            os.replace(draft, output)
        except OSError as error:
            raise unwritable(output, error) from error


@contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """A file to fill; when the block ends well it becomes ``path`` in one step, else it is removed: readers see the
    old file or the new one. What a killed run left is written over by the next. Raises OSError."""
    draft = path.with_name(f".{path.name}.draft")
    try:
        with open(draft, "wb") as file:
            yield file
            to_disk(file)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def write_file(path: Path, data: bytes) -> None:
    """Write and flush to the disk, so that a full disk is noticed here."""
    with open(path, "wb") as file:
        file.write(data)
        to_disk(file)


def to_disk(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def unwritable(output: Path, error: OSError) -> OutputError:
    """What the user is told."""
    return OutputError(f"{output} can't be written: {cause(error)}")


_CAUSES: dict[int, Callable[[OSError], str]] = {
    errno.ENOSPC: lambda e: "the disk is full; nothing half-written is left",
    errno.EFBIG: lambda e: "a file would be larger than is allowed there; nothing half-written is left",
    errno.EDQUOT: lambda e: "the quota is used up; nothing half-written is left",
    errno.EACCES: lambda e: "permission denied; choose another folder with -o",
    errno.EPERM: lambda e: "permission denied; choose another folder with -o",
    errno.EROFS: lambda e: "the file system is read-only; choose another folder with -o",
}


def cause(error: OSError) -> str:
    known = _CAUSES.get(error.errno or 0)
    return known(error) if known else (error.strerror or str(error))
