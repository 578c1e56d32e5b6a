"""How long-running work reports: a small protocol, and ways to show it. Everything goes to stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Column

_ROOMY = 100  # columns of a terminal


class Progress(Protocol):
    """Work nests: a search starts a bar, each retraining inside it starts and finishes its own."""

    def start(self, total: int, description: str) -> None:
        """Begins a piece of work of ``total`` steps."""
        ...

    def advance(self, steps: int = 1, status: str = "", total: int | None = None) -> None:
        """``steps`` more are done; ``status`` is shown beside them, and stays if it is empty. ``total``: how many steps
        there turn out to be."""
        ...

    def log(self, message: str) -> None:
        """One line to keep."""
        ...

    def finish(self) -> None:
        """Ends what was started last."""
        ...


class Silent:
    """Shows nothing."""

    def start(self, total: int, description: str) -> None:
        pass

    def advance(self, steps: int = 1, status: str = "", total: int | None = None) -> None:
        pass

    def log(self, message: str) -> None:
        pass

    def finish(self) -> None:
        pass


class RichProgress:
    """Bars with remaining and, where there is room, elapsed time on a terminal. A context manager."""

    def __init__(self, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        room = console.width >= _ROOMY
        elapsed = [TimeElapsedColumn(table_column=Column(min_width=7))] if room else []
        self._bars = Bars(
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=16 if room else 8),
            MofNCompleteColumn(table_column=Column(no_wrap=True, min_width=7)),
            *elapsed,
            TextColumn("ETA", table_column=Column(min_width=3)),
            TimeRemainingColumn(compact=True, table_column=Column(min_width=5)),
            # what is left of the line; a long status is cut, never the numbers
            TextColumn("{task.fields[status]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
            console=console,
            expand=True,
        )
        self._open: list[TaskID] = []

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bars.stop()

    def start(self, total: int, description: str) -> None:
        self._open.append(self._bars.add_task(description, total=total, status=""))

    def advance(self, steps: int = 1, status: str = "", total: int | None = None) -> None:
        if status:
            self._bars.update(self._open[-1], advance=steps, total=total, status=status)
        else:
            self._bars.update(self._open[-1], advance=steps, total=total)

    def log(self, message: str) -> None:
        self._bars.console.print(message, highlight=False)

    def finish(self) -> None:
        task = self._open.pop()
        if self._open:
            self._bars.remove_task(task)  # inner work leaves no bar behind
        else:
            self._bars.stop_task(task)


class LineProgress:
    """A line every ``seconds``, or after so many ``steps``, for logs and pipes. A context manager like the bars."""

    def __init__(self, seconds: float = 10.0, steps: int | None = None) -> None:
        self.seconds, self.steps = seconds, steps
        self._open: list[_Work] = []
        self._printed = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass

    def start(self, total: int, description: str) -> None:
        self._open.append(_Work(total, description, time.monotonic()))

    def advance(self, steps: int = 1, status: str = "", total: int | None = None) -> None:
        work = self._open[-1]
        work.done, work.total = work.done + steps, work.total if total is None else total
        work.status = status or work.status
        now = time.monotonic()
        counted = self.steps is not None and steps > 0 and work.done % self.steps == 0
        if counted or (self.steps is None and now - self._printed >= self.seconds):
            self.log(work.line(now))

    def log(self, message: str) -> None:
        print(message, file=sys.stderr, flush=True)
        self._printed = time.monotonic()

    def finish(self) -> None:
        self._open.pop()


class _Work:
    def __init__(self, total: int, description: str, started: float) -> None:
        self.total, self.description, self.started = total, description, started
        self.done, self.status = 0, ""

    def line(self, now: float) -> str:
        left = (now - self.started) / max(1, self.done) * (self.total - self.done)
        text = f"{self.description}: {self.done}/{self.total}, ETA {int(left) // 60}:{int(left) % 60:02d}"
        return f"{text}, {self.status}" if self.status else text


def progress_on_stderr(steps: int | None = None) -> RichProgress | LineProgress:
    """Bars where stderr is a terminal, lines where it is not, or where one is wanted after so many steps."""
    return RichProgress() if sys.stderr.isatty() and steps is None else LineProgress(steps=steps)
