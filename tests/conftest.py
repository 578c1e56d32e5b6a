"""Fixtures of the tests that run the command line."""

from __future__ import annotations

import functools
import gc
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from app_helpers import NETWORK


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """A shell starts what runs in its background with Ctrl-C ignored; tests press it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def exact_predictions() -> Iterator[None]:
    """Users are only warned where other MACs were planned than the file has; in tests that is an error."""
    from secateur.pruners.base import BasicPruning

    publish = BasicPruning.publish

    @functools.wraps(publish)
    def published(*args: Any, **kwargs: Any) -> Any:
        bundle = publish(*args, **kwargs)
        assert "warnings" not in bundle.summary, bundle.summary["warnings"]
        return bundle

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BasicPruning, "publish", published)
        yield


def pytest_collection_finish() -> None:
    """What was imported until here stays; looking through it again and again takes a tenth of the time of all tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def quick_checks() -> Iterator[None]:
    """Fresh processes are forked from one that has torch imported, and from one that has transformers, too, for files
    that import it; the first test that verifies starts it."""
    from secateur.pruners.verify.process import many_verifications

    with many_verifications(["transformers.models.llama.modeling_llama"]):
        yield


@pytest.fixture
def without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packed layers sum as they do where it is missing: it compiles for seconds, for every packed file anew."""
    monkeypatch.setitem(sys.modules, "numba", None)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
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
