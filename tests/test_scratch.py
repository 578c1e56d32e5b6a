"""Folders for what one process alone needs: they go with it, or are removed by the next one."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_USED = """
import os, signal, sys
from secateur.pruners.scratch import import_text, scratch
module = import_text("answer = 42")
with scratch() as folder:
    (folder / "file").touch()
    print(module.answer, module.__file__, folder, flush=True)
    if "killed" in sys.argv:
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.readline()
assert not folder.exists()
"""


def started(around: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _USED, *arguments], env={**os.environ, "TMPDIR": str(around)}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip


def aged(around: Path, seconds: float = 7200) -> None:
    for folder in around.iterdir():
        os.utime(folder, (time.time() - seconds,) * 2)


@pytest.mark.parametrize("room", ["commands", "models", "pruners", "training"])
def test_nothing_else_makes_folders_that_may_stay(room: str) -> None:
    for file in (ROOT / room).rglob("*.py"):
        nodes = [n for n in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(n, (ast.Attribute, ast.alias))]
        names = {n.attr if isinstance(n, ast.Attribute) else n.name for n in nodes}
        made = names & {"mkdtemp", "TemporaryDirectory", "mkstemp", "NamedTemporaryFile"}
        assert not made or file == ROOT / "pruners" / "scratch.py", f"{file}: {made}"


def test_nothing_is_left_when_a_process_ends(tmp_path: Path) -> None:
    said = started(tmp_path).communicate("\n", timeout=60)[0].split()
    assert said[0] == "42" and Path(said[1]).is_relative_to(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_goes_and_what_another_one_uses_stays(tmp_path: Path) -> None:
    started(tmp_path, "killed").communicate(timeout=60)
    assert len(list(tmp_path.iterdir())) == 1
    running = started(tmp_path)
    assert running.stdout is not None
    file = running.stdout.readline().split()[1]
    (tmp_path / "secateur-of-mine").mkdir()
    started(tmp_path).communicate("\n", timeout=60)
    assert len(list(tmp_path.iterdir())) == 3  # the first may be one that another process is making
    aged(tmp_path)
    started(tmp_path).communicate("\n", timeout=60)
    assert {p.name for p in tmp_path.iterdir()} == {Path(file).parents[1].name, "secateur-of-mine"}
    assert Path(file).is_file()
    running.communicate("\n", timeout=60)
    assert {p.name for p in tmp_path.iterdir()} == {"secateur-of-mine"}
