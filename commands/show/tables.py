"""Results for people: tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table

from ...pruners.bundle import Bundle, comparison, difference_text
from ...pruners.errors import some
from ...pruners.latency import verdict_text


def table(title: str, *columns: str) -> Table:
    """An empty table; columns that begin with ``#`` hold numbers."""
    made = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    for i, column in enumerate(columns):
        number = column.startswith("#")
        made.add_column(column.removeprefix("#"), justify="right" if number else "left", no_wrap=number or i == 0)
    return made


def outcome(bundle: Bundle) -> list[RenderableType]:
    """Before and after, and where the bundle is."""
    shown = table(str(bundle.summary["factory"]), "", "#before", "#after", "#change")
    for row in comparison(bundle.summary):
        shown.add_row(row.name, row.before, row.after, row.change)
    found = f"verified in a fresh process, largest difference {difference_text(bundle.summary)}"
    timed = bundle.summary.get("latency")
    without = bundle.summary.get("without")
    if without:
        found += f"; without {some(without, 6)}"
    warned = list(bundle.summary.get("warnings") or [])
    if lost := bundle.summary.get("lost"):
        warned.append(f"of your code the written one doesn't hold {some(lost)} (lost in summary.json)")
    if stale := bundle.summary.get("stale"):
        said = "stay as they were, though widths that they counted are others now"
        warned.append(f"warning: the numbers in {some(stale)} {said} (stale in summary.json)")
    if loads := bundle.summary.get("loads"):
        warned.append(f"{some(loads)} can load weights, which are of the widths before (loads in summary.json)")
    if left := bundle.summary.get("left_behind"):
        warned.append(f"of the model's folder {some(left)} don't go along (left_behind in summary.json)")
    where = bundle.folder if bundle.configured else bundle.file
    return [shown, *([f"\n{verdict_text(timed)}"] if timed else []), f"\n{where}: {found}", *warned]


def skipped(damaged: Sequence[str]) -> str:
    """The line that says which images were left out of a folder."""
    return f"skipped, as they can't be read as images: {some(damaged)} ({len(damaged)} in all)"


def minutes(seconds: float) -> str:
    """A time in minutes and seconds: ``minutes(75)`` is ``1:15 minutes``."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d} minutes"
