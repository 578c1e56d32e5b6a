"""The process that is forked before anything of ours is imported: it is as fresh as one that Python starts anew."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ASKED = """
import json, os, signal, sys, time
sys.path.insert(0, {root!r})
import click
from secateur.commands.cli import early
from secateur.pruners import ahead
ahead.start()
{between}
done = ahead.ask({script!r}, ["one", "two"], {folder!r}, {timeout})
again = ahead.ask({script!r}, [], {folder!r}, 9)
print(json.dumps([done and done.stdout, done and done.stderr, done and done.returncode, again]))
"""


WORK = "import secateur.pruners.base, own_module"  # takes time


def asked(folder: Path, script: str, between: str = WORK, timeout: float = 100) -> list[object]:
    """What a script gives that waited while its parent went on: what it printed, also as errors, and its exit code."""
    (folder / "own_module.py").write_text("")
    (folder / "script.py").write_text(script)
    (folder / "scratch").mkdir()
    names = {"script": str(folder / "script.py"), "folder": str(folder / "scratch")}
    code = ASKED.format(root=str(ROOT), between=between, timeout=timeout, **names)
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found: list[object] = json.loads(done.stdout)
    return found


def test_a_script_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="TimeoutExpired"):
        asked(tmp_path, "import time; time.sleep(60)", between="", timeout=0.1)


def test_what_its_parent_could_import_is_not_there(tmp_path: Path) -> None:
    script = (
        "import importlib, sys\n"
        "sys.meta_path = [f for f in sys.meta_path if '__editable__' not in str(f)]\n"
        "for name in ('secateur', 'pruners', 'app'):\n"
        "    try: importlib.import_module(name)\n"
        "    except ModuleNotFoundError as error: print(error)\n"
        "import own_module"
    )
    out, error, code, _ = asked(tmp_path, script)
    assert str(out).splitlines() == [f"No module named '{name}'" for name in ("secateur", "pruners", "app")]
    assert code == 1 and "No module named 'own_module'" in str(error)


def test_it_is_like_a_process_that_python_starts(tmp_path: Path) -> None:
    """The modules of the standard library that its parent needed are all that it has more."""
    script = (
        "import json, os, sys, warnings, torch\n"
        "warnings.warn('nobody reads this')\n"
        "print(json.dumps([sys.path, sorted(sys.modules), sys.argv[1:], os.getcwd(), __name__, sys.stdin.read()]))"
    )
    out, error, code, again = asked(tmp_path, script)
    path, modules, *more = json.loads(str(out))
    command = [sys.executable, "-I", "-W", "ignore", tmp_path / "script.py", "one", "two"]
    new = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path / "scratch", stdin=subprocess.DEVNULL)
    path_anew, modules_anew, *more_anew = json.loads(new.stdout)
    assert (path, more) == (path_anew, more_anew) and (error, code, again) == ("", 0, None)
    assert {m.partition(".")[0] for m in set(modules) - set(modules_anew)} <= sys.stdlib_module_names


def test_another_process_is_taken_where_it_was_interrupted(tmp_path: Path) -> None:
    interrupted = f"{WORK}\nos.kill(ahead._waiting[0].pid, signal.SIGINT); ahead._waiting[0].join(60)"
    assert asked(tmp_path, "", between=interrupted)[0] is None


def test_nobody_waits_where_torch_is_imported_already(tmp_path: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\nimport torch\nfrom secateur.pruners import ahead\n"
    code += "ahead.start()\nassert ahead._waiting is None"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=120)
