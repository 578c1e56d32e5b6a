"""Fixtures of the tests that run the command line."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from app_helpers import NETWORK


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """A shell starts what runs in its background with Ctrl-C ignored; tests press it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def quick_checks() -> Iterator[None]:
    """Fresh processes are forked from one that has torch imported."""
    from secateur.pruners.verify.process import many_verifications

    with many_verifications():
        yield


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_checks: None) -> Iterator[Path]:
    """An empty working folder with ``own_small.py``, which is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", ["app.py", "prune", "--arch", "a b"])
    (tmp_path / "own_small.py").write_text(NETWORK)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith(("own_", "secateur_", "broken")):
            del sys.modules[name]
