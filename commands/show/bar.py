"""A bar for work that may need none."""

from __future__ import annotations

from ...training.fit import Progress


class Shown:
    """A bar that begins with the first report, and ends with the last."""

    def __init__(self, progress: Progress, description: str) -> None:
        self._progress, self._description, self._done = progress, description, 0
        self._started = False

    def report(self, done: int, total: int, name: str = "") -> None:
        """So many of all are done; the last was called so."""
        if not self._started:
            self._progress.start(total, self._description)
            self._started, self._done = True, 0
        self._progress.advance(done - self._done, name)
        self._done = done
        if done >= total:
            self.finish()

    def finish(self) -> None:
        """Take the bar away."""
        if self._started:
            self._progress.finish()
            self._started = False
