"""Ctrl-C, or a polite request to end, as a wish to stop at the next good moment."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

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
