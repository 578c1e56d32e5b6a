"""Where things are said: progress and remarks on stderr, results on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console, RenderableType
from rich.markup import escape

from ...training.fit import Progress, RichProgress, progress_on_stderr

_PIPE_WIDTH = 140


class Voice:
    """A context manager that shows bars while it is open. ``verbose``: -1 quiet, 0 normal, 1 with details. ``steps``:
    after how many a line is shown instead."""

    def __init__(self, verbose: int = 0, as_json: bool = False, steps: int | None = None) -> None:
        self.verbose = verbose
        self.as_json = as_json
        self._shown = None if verbose < 0 else progress_on_stderr(steps)
        self.progress: Progress = self._shown or Progress()

    def __enter__(self) -> Self:
        if self._shown is not None:
            self._shown.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._shown is not None:
            self._shown.__exit__(kind, error, at)

    def remark(self, message: str, highlight: bool = False) -> None:
        """One line on stderr, unless quiet."""
        if isinstance(self._shown, RichProgress):
            text = escape(message)
            self.progress.log(f"[bold magenta]{text}[/]" if highlight else text)
        else:
            self.progress.log(message)

    def warn(self, message: str) -> None:
        """One line on stderr, even if quiet: something the user would expect is missing."""
        if self._shown is None:
            print(f"warning: {message}", file=sys.stderr)
        else:
            self.remark(f"warning: {message}", highlight=True)

    def detail(self, message: str) -> None:
        """One line on stderr with -v."""
        if self.verbose > 0:
            self.remark(message)

    def result(self, shown: str | Sequence[RenderableType], values: Mapping[str, Any] | Sequence[Any]) -> None:
        """The outcome on stdout: text and tables for people, or values with --json."""
        if self.as_json:
            print(json.dumps(values, indent=2))
            return
        console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)
        for item in [shown] if isinstance(shown, str) else shown:
            # text as it is: rich would wrap lines and read brackets as markup
            print(item) if isinstance(item, str) else console.print(item)
