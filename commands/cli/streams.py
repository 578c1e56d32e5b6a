"""Standard output and error that may be closed, full, or read by somebody who goes away: none of it ends the work."""

from __future__ import annotations

import atexit
import errno
import os
import sys
import threading
import time
from typing import Any, TextIO, cast

STARTED = time.monotonic()
"""About when the user pressed the return key: nothing that takes long is imported before."""


class Lasting:
    """A stream that goes on into the void when it can't be written any more. ``failed``: why."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.failed: OSError | None = None

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._fail(error)
        except UnicodeEncodeError:  # of a terminal that has few letters
            return self._stream.write(text.encode("ascii", "backslashreplace").decode())
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._fail(error)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _fail(self, error: OSError) -> None:
        """What is buffered still goes somewhere when the program ends."""
        self.failed = self.failed or error
        void = os.open(os.devnull, os.O_WRONLY)
        os.dup2(void, self._stream.fileno())
        os.close(void)


def make_lasting() -> None:
    """For a whole program, before it opens anything: a file must not get the number of a stream that is closed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest number that is free
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (as long as the program)
        setattr(sys, name, cast(TextIO, Lasting(stream)))


def unprinted() -> str:
    """Why what was printed did not arrive; empty where it did, or where nobody wanted more of it."""
    sys.stdout.flush()
    failed: OSError | None = getattr(sys.stdout, "failed", None)
    return "" if failed is None or failed.errno == errno.EPIPE else str(failed.strerror)


def leave(code: Any) -> None:
    """End the program with this exit code, if nothing is left to be done: to take down what torch and what it imports
    have made keeps Python busy for up to a second."""
    if threading.active_count() > 1 or not isinstance(code, int | None):
        return
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)
