"""Places in somebody's source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Span = tuple[int, int, int, int]  # line, column, end line, end column of an expression, as in ast


@dataclass(frozen=True, order=True)
class Site:
    """A place in somebody's source: where an operation is called. ``span``: its expression, to be shown; two places
    on one line are the same."""

    file: str
    line: int
    function: str = ""
    span: Span | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.file else "(unknown place)"


NOWHERE = Site("", 0)


@dataclass(frozen=True)
class LiteralSite:
    """An expression in kept code that holds a stale number once the channels are gone.

    ``keyword``: the expression is a call, which has to say the number by an argument of this name. ``template``: what
    takes the expression's place, with ``{}`` for the number.

    The span is the expression's, as in ``ast``: lines from 1, columns (UTF-8 bytes) from 0. ``values`` maps the path
    of each module whose code runs there (``""`` is the root) to the new value: int, float or a tuple of them.
    """

    file: str
    line: int
    col: int
    end_line: int
    end_col: int
    values: Mapping[str, object]
    keyword: str = ""
    template: str = "{}"

    @property
    def span(self) -> Span:
        return self.line, self.col, self.end_line, self.end_col

    @property
    def site(self) -> Site:
        return Site(self.file, self.line, span=self.span)
