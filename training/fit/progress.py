"""How long-running work reports: a small protocol, and ways to show it. Everything goes to stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.table import Column
from rich.text import Text

_ROOMY = 100  # columns of a terminal


class Progress:
    """Shows nothing. Work nests: a search starts a bar, each retraining inside it starts and finishes its own."""

    def start(self, total: int, description: str) -> None:
        """Begins a piece of work of ``total`` steps."""

    def advance(self, steps: int = 1, status: str = "", total: int | None = None) -> None:
        """``steps`` more are done; ``status`` is shown beside them, and stays if it is empty. ``total``: how many steps
        there turn out to be."""

    def expect(self, seconds: float) -> None:
        """The rest will take so long. Without being told, steps are taken to last equally long."""

    def log(self, message: str) -> None:
        """One line to keep."""

    def finish(self) -> None:
        """Ends what was started last."""


class _TimeLeft(TimeRemainingColumn):
    """What was told of the time that is left, else what rich makes of the steps."""

    def render(self, task: Task) -> Text:
        end = task.fields["end"]
        if end is None or task.finished:
            return super().render(task)
        left = max(0, round(end - time.monotonic()))
        hours = f"{left // 3600}:" if left >= 3600 else ""
        return Text(f"{hours}{left // 60 % 60:02d}:{left % 60:02d}", style="progress.remaining")


class RichProgress(Progress):
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
            _TimeLeft(compact=True, table_column=Column(min_width=5)),
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
        self._open.append(self._bars.add_task(description, total=total, status="", end=None))

    def advance(self, steps: int = 1, status: str = "", total: int | None = None) -> None:
        if status:
            self._bars.update(self._open[-1], advance=steps, total=total, status=status)
        else:
            self._bars.update(self._open[-1], advance=steps, total=total)

    def expect(self, seconds: float) -> None:
        self._bars.update(self._open[-1], end=time.monotonic() + seconds)

    def log(self, message: str) -> None:
        self._bars.console.print(message, highlight=False)

    def finish(self) -> None:
        task = self._open.pop()
        if self._open:
            self._bars.remove_task(task)  # inner work leaves no bar behind
        else:
            self._bars.stop_task(task)


class LineProgress(Progress):
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

    def expect(self, seconds: float) -> None:
        self._open[-1].end = time.monotonic() + seconds

    def log(self, message: str) -> None:
        print(message, file=sys.stderr, flush=True)
        self._printed = time.monotonic()

    def finish(self) -> None:
        self._open.pop()


class _Work:
    def __init__(self, total: int, description: str, started: float) -> None:
        self.total, self.description, self.started = total, description, started
        self.done, self.status = 0, ""
        self.end: float | None = None

    def line(self, now: float) -> str:
        left = (now - self.started) / max(1, self.done) * (self.total - self.done)
        if self.end is not None:
            left = max(0.0, self.end - now)
        text = f"{self.description}: {self.done}/{self.total}, ETA {int(left) // 60}:{int(left) % 60:02d}"
        return f"{text}, {self.status}" if self.status else text


def progress_on_stderr(steps: int | None = None) -> RichProgress | LineProgress:
    """Bars where stderr is a terminal, lines where it is not, or where one is wanted after so many steps."""
    return RichProgress() if sys.stderr.isatty() and steps is None else LineProgress(steps=steps)
