"""Output that is closed, full, or not read to the end; and what the machine refuses."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from app_helpers import MODEL, refusal

from secateur.commands import inspect as inspecting

APP = [sys.executable, str(Path(__file__).parents[2] / "app.py")]
PRUNE = ["prune", "-q", *MODEL, "--ratio", "0.5", "-o", "out"]
full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")


def call(words: list[str], **how: Any) -> tuple[int, str]:
    done = subprocess.run([*APP, *words], text=True, **{"stderr": subprocess.PIPE, **how})
    return done.returncode, done.stderr or ""


# -- what is refused


@full
def test_a_result_that_is_only_printed_must_arrive(here):
    with open("/dev/full", "w") as disk:
        code, said = call(["archs"], stdout=disk)
    assert (code, said) == (2, "error: the result can't be printed: No space left on device\n")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        pytest.param(MemoryError(), "there is too little memory: take smaller inputs, or another machine", id="memory"),
        pytest.param(
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"),
            "there is too little memory ([enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes)"
            ": take smaller inputs, or another machine",
            id="memory, as torch says it",
        ),
        pytest.param(
            OSError(errno.EACCES, "Permission denied", "x/y"), "x/y can't be used: Permission denied", id="a place",
        ),
    ],
)  # fmt: skip
def test_what_the_machine_refuses_is_no_fault_of_the_tool(here, monkeypatch, error, told):
    def fail(options: object) -> None:
        raise error

    monkeypatch.setattr(inspecting, "run", fail)
    assert refusal("inspect", *MODEL) == (2, f"error: {told}")


@pytest.mark.parametrize("words", [["-o", "n"], ["--weights", "n"], ["--data", "folder:n"]], ids=" ".join)
def test_a_name_that_no_disk_takes_is_refused(here, words):
    code, said = refusal("prune", "-q", *MODEL, "--ratio", "0.5", words[0], words[1].replace("n", "n" * 300))
    assert (code, len(said.splitlines())) == (2, 1)
    assert "File name too long" in said or "the name has 300 bytes; take one of at most 200" in said


# -- what is published all the same


@pytest.mark.parametrize(
    "close",
    [
        pytest.param(lambda: os.close(1), id="no stdout"),
        pytest.param(lambda: [os.close(i) for i in range(3)], id="no streams at all"),
    ],
)
def test_closed_streams_end_nothing(here: Path, close: Callable[[], None]) -> None:
    code, _ = call(PRUNE, stderr=None, preexec_fn=close)
    assert code == 0
    assert (here / "out" / "summary.json").exists()


@full
def test_a_full_stdout_is_told_and_what_is_published_stays(here):
    with open("/dev/full", "w") as disk:
        code, said = call(PRUNE, stdout=disk)
    assert (code, said) == (0, "warning: the result can't be printed: No space left on device\n")
    assert (here / "out" / "summary.json").exists()


@full
def test_a_full_stderr_ends_nothing(here):
    with open("/dev/full", "w") as disk:
        code, _ = call([w for w in PRUNE if w != "-q"], stdout=subprocess.DEVNULL, stderr=disk)
    assert code == 0
    assert (here / "out" / "summary.json").exists()


def test_who_reads_the_first_line_only_is_no_error(here):
    shell = shutil.which("bash")
    if shell is None:
        pytest.skip("there is no bash here")
    words = " ".join([*APP, "archs"])
    script = f"{words} | head -1; echo ${{PIPESTATUS[0]}}; {words} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run([shell, "-c", script], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.splitlines()[1:] == ["0", "0"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_who_ends_it_is_told_how_to_go_on(here: Path, number: signal.Signals) -> None:
    words = ["prune", "--model", "own_small.py:small", "--data", "digits", "--force", "-o", "out"]
    with subprocess.Popen([*APP, *words], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        ledger = here / ".out.work" / "search.jsonl"
        while process.poll() is None and not (ledger.exists() and len(ledger.read_bytes().splitlines()) > 3):
            time.sleep(0.02)
        process.send_signal(number)
        assert process.stderr is not None
        said = process.stderr.read().splitlines()
    assert process.returncode == 130
    assert said[-2].startswith("search interrupted after ")
    assert said[-1].endswith("app.py prune --model own_small.py:small --data digits --force -o out --resume")
