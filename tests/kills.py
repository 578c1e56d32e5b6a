"""Kills a run at random moments and goes on with it: the end is always the same plan and bundle, and nothing else.

    python tests/kills.py 50 [SEED]

Every run is forked from one process that has torch imported, so that most of the moments lie in the work itself. The
first run is left alone; the others begin in a folder of their own, are killed, and go on with --resume (and --force
where the line they print says so) until one ends by itself.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [p for p in (str(ROOT), str(ROOT / "tests" / "helpers")) if p not in sys.path]

from app_helpers import NETWORK  # noqa: E402

from secateur.app import cli  # noqa: E402

WORDS = (
    "prune", "--model", "own_small.py:small", "--data", "digits", "--search", "bayesian", "--params", "0.7",
    "--retrain-epochs", "1", "--final-epochs", "2", "-o", "place/out",
)  # fmt: skip
# the runs need not import them
READY = ("secateur.commands.prune", "sklearn.datasets", "accelerate", "bayes_opt", "torch._dynamo")
TIMES = ("latency_ms", "search")  # in the summary
SECONDS = re.compile(rb'"seconds": [^,}]*')


def started(folder: Path, *more: str) -> int:
    """Begin the command in a process group of its own; its number."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        os.setpgid(0, 0)
        os.chdir(folder)
        log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        cli([*WORDS, *more], prog_name="app.py")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    finally:
        os._exit(code)


def ended(child: int, seconds: float, sign: Callable[[], bool]) -> int | None:
    """The exit code; None for a run that is killed so many seconds after the sign."""
    since = None
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if since is None and sign():
            since = time.monotonic()
        if since is not None and time.monotonic() - since > seconds:
            return None
        time.sleep(0.002)


def killed(child: int, alone: bool) -> None:
    """With what it started, or ``alone``."""
    (os.kill if alone else os.killpg)(child, signal.SIGKILL)
    os.waitpid(child, 0)


def new_folder(top: Path, name: str) -> Path:
    folder = top / name
    (folder / "place").mkdir(parents=True)
    (folder / "own_small.py").write_text(NETWORK)
    return folder


def finished(folder: Path) -> list[str]:
    """Go on until a run ends; what was needed for it."""
    code = ended(started(folder, "--resume"), float("inf"), lambda: False)
    if code == 0:
        return ["--resume"]
    said = (folder / "log").read_text().splitlines()[-1]
    if code != 2 or "--force" not in said:
        raise AssertionError(f"exit {code}: {said}")
    compared(folder)  # what is there is whole
    code = ended(started(folder, "--resume", "--force"), float("inf"), lambda: False)
    if code != 0:
        raise AssertionError(f"exit {code} with --force: {(folder / 'log').read_text().splitlines()[-1]}")
    return ["--resume", "--force"]


def compared(folder: Path) -> dict[str, Any]:
    """What must be the same in every bundle. Raises AssertionError where something else lies around."""
    place = folder / "place"
    left = sorted(p.name for p in place.iterdir() if p.name != "out")
    if left:
        raise AssertionError(f"{', '.join(left)} stays")
    out = place / "out"
    found: dict[str, Any] = {n: (out / n).read_bytes() for n in ("model.py", "weights.pth", "plan.json")}
    found["search.jsonl"] = SECONDS.sub(b"", (out / "search.jsonl").read_bytes())
    summary = json.loads((out / "summary.json").read_text())
    found["summary.json"] = {k: v for k, v in summary.items() if k not in TIMES}
    found["names"] = sorted(p.name for p in out.iterdir())
    return found


def kills(count: int, seed: int = 0, told: Callable[[str], object] = print) -> list[str]:
    """Kill so many runs; what went wrong."""
    for name in READY:
        importlib.import_module(name)
    chance, wrong = random.Random(seed), []
    with tempfile.TemporaryDirectory() as top:
        first = new_folder(Path(top), "first")
        begun = time.monotonic()
        child = started(first)
        ended(child, 0.0, lambda: any((first / "place").iterdir()))
        before = time.monotonic()
        if ended(child, float("inf"), lambda: False) != 0:
            raise AssertionError((first / "log").read_text())
        work, meant = time.monotonic() - before, compared(first)
        told(f"{before - begun:.1f} seconds until something is written, {work:.1f} until the end")
        for number in range(count):
            folder, seconds = new_folder(Path(top), str(number)), chance.uniform(0, work)
            place = folder / "place"
            child = started(folder)
            code = ended(child, seconds, lambda place=place: any(place.iterdir()))  # type: ignore[misc]
            if code is None:
                killed(child, alone=bool(number % 2))
            left = ", ".join(sorted(p.name for p in place.iterdir()))
            try:
                more = finished(folder) if code is None else []
                found = compared(folder)
                if found != meant:
                    raise AssertionError(f"{', '.join(k for k in meant if found[k] != meant[k])} differ")
            except (AssertionError, OSError, ValueError) as error:
                wrong.append(f"after {seconds:.2f} s with {left}: {error}")
                told(f"{number + 1}: {wrong[-1]}")
            else:
                told(f"{number + 1}: {seconds:.2f} s, left: {left}; {' '.join(more) or 'it had ended'}")
    return wrong


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    failed = kills(int(sys.argv[1]), int(sys.argv[2]) if sys.argv[2:] else 0)
    print(f"{len(failed)} of {sys.argv[1]} went wrong")
    sys.exit(bool(failed))
