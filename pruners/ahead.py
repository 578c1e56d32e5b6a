"""A process that is forked before anything of ours is imported but torch, and waits for the proof that is coming.

Torch takes longer to import than most files to verify, so it is imported once for both processes. The one that waits
has forgotten what its parent knew: it is like one that ``python -I`` starts.
"""

from __future__ import annotations

import gc
import json
import multiprocessing as mp
import os
import runpy
import signal
import subprocess
import sys
import warnings
from collections.abc import Collection, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from pathlib import Path

from .imports import staying

_PATH = [sys.executable, "-I", "-c", "import json, sys; print(json.dumps(sys.path))"]
_waiting: tuple[ForkProcess, Connection] | None = None


def start() -> None:
    """Import torch and fork. Nothing happens where forking isn't safe, or where torch is there already: then so may be
    anything."""
    global _waiting
    if sys.platform != "linux" or "torch" in sys.modules:
        return
    known = {name for name in sys.modules if name.partition(".")[0] not in sys.stdlib_module_names}
    with staying():
        import torch  # noqa: F401 (for both)
    ours, theirs = mp.Pipe()
    context = mp.get_context("fork")
    process = context.Process(target=_wait, args=(theirs, ours, known), daemon=True)
    process.start()
    theirs.close()
    _waiting = process, ours


def ask(script: str, arguments: Sequence[str], folder: str, timeout: float) -> subprocess.CompletedProcess[str] | None:
    """What the script prints there, once; None where nobody waits. ``folder``: where it runs. Raises TimeoutExpired."""
    global _waiting
    if _waiting is None:
        return None
    (process, connection), _waiting = _waiting, None
    if not process.is_alive():  # it was interrupted where its parent went on
        return None
    try:
        connection.send((script, list(arguments), folder))
        process.join(timeout)
        if process.is_alive():
            raise subprocess.TimeoutExpired(script, timeout)
    finally:
        process.kill()
        process.join()
    texts = [file.read_text("utf-8") if (file := Path(folder, name)).exists() else "" for name in ("out", "err")]
    return subprocess.CompletedProcess(script, process.exitcode or 0, *texts)


def _wait(connection: Connection, parents: Connection, known: Collection[str]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    parents.close()
    gc.enable()
    _forget(known)
    try:
        script, arguments, folder = connection.recv()
    except EOFError:  # the parent has gone
        os._exit(0)
    os.chdir(folder)
    sys.stdout, sys.stderr = (open(name, "w", encoding="utf-8") for name in ("out", "err"))  # noqa: SIM115 (to the end)
    os.dup2(sys.stdout.fileno(), 1)
    os.dup2(sys.stderr.fileno(), 2)
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")


def _forget(known: Collection[str]) -> None:
    """Modules, where to find more, and warnings: as in a process that was just started."""
    for name in known:
        sys.modules.pop(name, None)
    sys.meta_path[:] = [f for f in sys.meta_path if not type(f).__module__.startswith("secateur")]
    sys.path[:] = json.loads(subprocess.run(_PATH, capture_output=True, check=True).stdout)
    warnings.simplefilter("ignore")
