"""What objects show of themselves at a prompt or in a notebook: one short line, or a small table."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

_NAMED, _LONGEST = 8, 40
_ROWS = 40


def listed(parts: Iterable[str]) -> str:
    """The first few of them, each cut where it is long, and how many more there are."""
    known = list(parts)
    shown = [p if len(p) <= _LONGEST else f"{p[:_LONGEST - 3]}..." for p in known[:_NAMED]]
    more = len(known) - len(shown)
    return ", ".join([*shown, *([f"and {more} more"] if more else [])])


def visible(text: str) -> str:
    """The text with what can't be seen (control characters, marks that turn the direction of reading, halves of
    surrogate pairs) as escapes; line ends stay."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


@cache
def template(name: str, *, page: bool = False) -> Any:
    """A template for code, or of a ``page``, in which text is escaped and made visible."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("secateur", "templates/report" if page else "templates"),
        undefined=jinja2.StrictUndefined, autoescape=page, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=(lambda v: visible(v) if type(v) is str else v) if page else None,  # what macros made is markup
    )  # fmt: skip
    return environment.get_template(name)


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """An HTML table of the first rows, with all text escaped."""
    known = list(rows)
    more = f"and {len(known) - _ROWS} more" if len(known) > _ROWS else ""
    lines = [_row("th", header), *(_row("td", row) for row in known[:_ROWS])]
    return f"<div><b>{html.escape(title)}</b><table>{''.join(lines)}</table>{more}</div>"


def _row(cell: str, values: Sequence[object]) -> str:
    return "<tr>" + "".join(f"<{cell}>{html.escape(str(v))}</{cell}>" for v in values) + "</tr>"
