"""Ctrl-C, or a polite request to end, as a wish to stop at the next good moment; a second one acts at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """``requested`` turns True when SIGINT or SIGTERM arrives inside ``listening()``."""

    def __init__(self) -> None:
        self.requested = False
        self._outer: dict[signal.Signals, Any] = {}

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take both over; in other threads than the main one, where Python allows no handlers, do nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._outer = {number: signal.signal(number, self._note) or signal.SIG_DFL for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in self._outer.items():
                signal.signal(number, handler)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Inside ``listening()``: hand both back to whoever had them, for a long step that stops by itself."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        mine = {number: signal.signal(number, handler) for number, handler in self._outer.items()}
        try:
            yield
        finally:
            for number, handler in mine.items():
                signal.signal(number, handler)


@contextmanager
def interrupt_as_flag() -> Iterator[Callable[[], bool]]:
    """Gives a function that says whether Ctrl-C was pressed or SIGTERM came. A second signal acts as it did before.

    Signals reach the main thread only; in any other thread the answer is always no.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in _SIGNALS}
    pressed = False

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(_signal: int, _frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        restore()

    for number in _SIGNALS:
        signal.signal(number, note)
    try:
        yield lambda: pressed
    finally:
        restore()
