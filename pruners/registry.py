"""Things that are registered under a name and found by it, and the one refusal of a name that isn't there."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable
from itertools import takewhile
from operator import eq
from typing import Any, Generic, TypeVar

from .errors import UnknownNameError

Entry = TypeVar("Entry")
_LISTED = 20  # more names beside the one that is meant help nobody


def closest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The known name that is most like this one, of several the one that begins like it; empty where none is.

    >>> closest("resnet21", ["resnet32", "resnet20"])
    'resnet20'
    """

    def likeness(other: str) -> tuple[float, int]:
        return difflib.SequenceMatcher(None, other, name).ratio(), sum(1 for _ in takewhile(bool, map(eq, other, name)))

    return max(difflib.get_close_matches(name, known, 9, cutoff), key=likeness, default="")


def check_name(kind: str, name: str, known: Collection[str]) -> None:
    """UsageError for a ``name`` that isn't among the ``known`` ones, with the closest of them."""
    if name not in known:
        close = closest(name, known, 0.4)
        guess = f", did you mean {close!r}?" if close else ";"
        listed = f" known are {', '.join(known)}" if not close or len(known) <= _LISTED else ""
        raise UnknownNameError(f"unknown {kind} {name!r}{guess}{listed}")


class Registry(Generic[Entry]):
    """What is registered under a name, with facts about it. ``kind`` names it in refusals.

    >>> metrics = Registry[Metric]("metric")
    >>> @metrics.register("l1", labels=False)
    ... def l1(evidence): ...
    >>> metrics.find("l1") is l1
    True
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry] = {}
        self._facts: dict[str, dict[str, Any]] = {}

    def register(self, name: str, **facts: Any) -> Callable[[Entry], Entry]:
        """A decorator that registers what it decorates; a name that is there already is taken over."""

        def register(entry: Entry) -> Entry:
            self._entries[name], self._facts[name] = entry, facts
            return entry

        return register

    def find(self, name: str) -> Entry:
        """What is registered under the name; UsageError with the closest one if there is nothing."""
        check_name(self.kind, name, self.names())
        return self._entries[name]

    def fact(self, name: str, fact: str) -> Any:
        """What was said of it when it was registered; None if nothing was. UsageError as from ``find``."""
        self.find(name)
        return self._facts[name].get(fact)

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._entries))
