"""Ctrl-C, or a polite request to end, as a wish to stop at the next good moment; a second one acts at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class StopRequest:
    """``requested`` turns True when SIGINT arrives inside ``listening()``."""

    def __init__(self) -> None:
        self.requested = False
        self._outer: Any = signal.default_int_handler

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take SIGINT over; in other threads than the main one, where Python allows no handlers, do nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._outer = signal.signal(signal.SIGINT, self._note) or signal.SIG_DFL
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, self._outer)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Inside ``listening()``: hand SIGINT back to whoever had it, for a long step that stops by itself."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        mine = signal.signal(signal.SIGINT, self._outer)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, mine)


_SIGNALS = (signal.SIGINT, signal.SIGTERM)


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
