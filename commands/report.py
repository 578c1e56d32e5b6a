"""``app.py report``: a bundle's report anew, or two bundles beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from ..pruners.bundle import Bundle, Compared, Side, compared, render_comparison, report_of
from ..pruners.errors import PlanError
from ..pruners.outputs import replaced, unwritable
from .cli import ReportOptions
from .show import Voice, table


def run(options: ReportOptions) -> None:
    bundles = [_opened(path) for path in options.bundles]
    with Voice(options.verbose, options.json) as voice:
        if len(bundles) == 1:
            file = options.output or bundles[0].folder / "report.html"
            _write(file, report_of(bundles[0].folder))
            shown, values = [f"{file}: the report of {options.bundles[0]}"], {"schema": 1, "report": str(file)}
        else:
            first, second = (Side(str(b.path), b.summary, b.plan) for b in bundles)
            told = compared(first, second)
            if options.output is not None:
                _write(options.output, render_comparison(first, second))
            shown, values = _tables(told, options.output), told.as_dict()
    voice.result(shown, values)


def _opened(path: Path) -> Bundle:
    bundle = Bundle.open(path)
    if bundle.summary.get("plan_sha256") != bundle.plan.digest:
        raise PlanError(f"{path}/plan.json was edited: it is not the plan that its summary.json tells of")
    return bundle


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replaced(file) as draft:
            draft.write(text.encode())
    except OSError as error:
        raise unwritable(file, error) from None


def _tables(told: Compared, output: Path | None) -> list[Any]:
    """For a terminal; widths that keep equally many are counted."""
    names = (f"#{told.first}", f"#{told.second}")
    measures = table("Measures", "", "#whole", *names)
    for row in told.measures:
        measures.add_row(row.name, row.before, row.first, row.second)
    different = [row for row in told.widths if row.first != row.second]
    widths = table("Kept channels", "width", "#channels", *names)
    for row in different:
        widths.add_row(row.name, row.before, row.first, row.second)
    alike = len(told.widths) - len(different)
    shown: list[Table | str] = [measures, "", *([widths] if different else [])]
    shown += [f"{alike} {'width keeps' if alike == 1 else 'widths keep'} equally many in both"] if alike else []
    if told.options:
        options = table("Options that differ", "option", told.first, told.second)
        for row in told.options:
            options.add_row(row.name, row.first, row.second)
        shown += ["", options]
    shown += ["", *told.notes] if told.notes else []
    return [*shown, f"\n{output}" if output else "\n-o FILE.html writes this as a page"]
