"""Places in a constructor where an author's name stands for a width that isn't that of the other places any more: there
goes a number, or, where the constructor makes several modules, a part of what the name says, ``planes // 2``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import floordiv, mul
from typing import Any

from ..author import Written, implied, reads_of
from ..live import literal

_LARGEST = 8  # of the divisors that are tried


@dataclass(frozen=True)
class Reading:
    """The ``n``-th time that the constructor of an instance came by a place, and what stood there."""

    site: Written
    index: int
    n: int


@dataclass(frozen=True)
class Use:
    """What goes to a place: ``text`` behind the author's expression, or in its place (``whole``); ``now``: of what the
    expression gives, what the text does."""

    text: str
    whole: bool
    now: Callable[[Any], Any]

    def written(self, expression: str) -> str:
        if self.whole:
            return self.text
        return f"({expression}){self.text}" if set(expression) & set("+-%<>&|^") else expression + self.text


def choices(
    before: Mapping[Reading, Any], wanted: Mapping[Hashable, float], old: Mapping[Hashable, float], several: bool
) -> Iterator[tuple[dict[Hashable, float], dict[Written, Use]]]:
    """Numbers, and what goes to the places that they don't suit. ``before``: what stood there, ``wanted``: and what has
    to; ``several``: whether the constructor made more than one module."""
    free = {k for r, v in before.items() if r in wanted for k in reads_of(v) if not isinstance(k, Reading)}
    known = {k: n for k, n in wanted.items() if not isinstance(k, Reading)}
    votes = {key: Counter[float]() for key in free}
    for reading, value in before.items():
        for key in reads_of(value) & free if reading in wanted else ():
            number = implied(value, wanted[reading], key, old)
            votes[key].update([number] if number is not None else [])
    most = {k: v.most_common(1)[0][0] if v else old[k] for k, v in votes.items()}
    same = {k: old[k] if len(v) > 1 else most[k] for k, v in votes.items()}  # it stays where it means several widths
    for start in (same, most) if several else (most, same):
        numbers = {**start, **known}
        uses = _suited(before, wanted, {**wanted, **numbers}, several)
        if uses is not None:
            yield numbers, uses


def _suited(
    before: Mapping[Reading, Any], wanted: Mapping[Hashable, float], numbers: Mapping[Hashable, float], several: bool
) -> dict[Written, Use] | None:
    pairs: dict[Written, list[tuple[int, int]]] = {}
    for reading, value in before.items():
        if reading in wanted:
            says = value.again(numbers) if reads_of(value) else value
            pairs.setdefault(reading.site, []).append((int(says), int(wanted[reading])))
    found = {site: _use(both, several) for site, both in pairs.items() if any(a != b for a, b in both)}
    return {s: u for s, u in found.items() if u is not None} if None not in found.values() else None


def _of(function: Callable[[Any, Any], Any], k: int, value: Any) -> Any:
    return function(value, k)


def _use(pairs: Sequence[tuple[int, int]], several: bool) -> Use | None:
    new = {b for _, b in pairs}
    if len(new) == 1 and not several:
        return Use(literal(number := new.pop()), True, lambda _: number)
    for k in range(2, _LARGEST + 1):
        if all(a // k == b for a, b in pairs):
            return Use(f" // {k}", False, partial(_of, floordiv, k))
        if all(a * k == b for a, b in pairs):
            return Use(f" * {k}", False, partial(_of, mul, k))
    return None
