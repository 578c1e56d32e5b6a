"""Attributes that only scripts read: what the author's constructors would give them with the numbers that layers have
now."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn

from ..author import Traced, Written, again, alone, numbers_by_place, reads_of, renewed, settled
from ..live import PLAIN, attempted
from .agreement import Run
from .context import ClassContext
from .equations import changed_numbers, namesakes, sizes_made, twins
from .replay import Replays, is_record

Values = Mapping[str, tuple[Any, ...] | None]  # by attribute, in every instance; None: one number for several widths


class ScriptNumbers:
    """``expected``: by module and attribute, what constructors would give now. ``constants``: numbers in the author's
    files that count other channels now. ``doubts``: numbers of several widths: module, attribute, words for it."""

    def __init__(self, replays: Replays) -> None:
        self.replays = replays
        self.expected: dict[str, dict[str, Any]] = {}
        self.constants: set[Written] = set()
        self.doubts: set[tuple[str, str, str]] = set()

    def values(self, context: ClassContext) -> Values:
        """Attributes that only scripts read, with the numbers that the layers have now."""
        if context.author.init is None or not all(context.births):
            return {}
        held = {n for r in context.records for n, s in r.items() if s.kind == PLAIN}
        names = {n for n in held if context.may_follow(n) or any(map(is_record, _held(context, n)))}
        names |= held - context.reads_here if context.whole else set()
        if not names and not context.is_root:
            return {}
        what = f"{context.author.cls.__name__} can't be made once more"
        return attempted(what, lambda: _OfClass(self, context, self.replays.runs_apart(context)).values(names)) or {}


class _OfClass:
    """The ``numbers`` that layers have now, those ``torn`` between several widths, and all that are ``known``."""

    def __init__(self, notes: ScriptNumbers, context: ClassContext, runs: Sequence[Run]) -> None:
        self.notes = notes
        self.context = context
        self.runs = runs
        equations = [e for i, run in enumerate(runs) for e in sizes_made(context, i, run)]
        equations += [e for i, run in enumerate(runs) for e in changed_numbers(context, i, run)]
        old = notes.replays.old
        self.numbers, self.torn = settled([*equations, *namesakes(context, runs, equations)], old)
        self.known = frozenset[Hashable]().union(*(value.reads for value, _ in equations))
        self.changed = {k for k in self.known if k in self.torn or self.numbers.get(k, old[k]) != old[k]}

    def values(self, names: Iterable[str]) -> Values:
        context = self.context
        if context.is_root:
            self.notes.constants = {k for k in self.changed if isinstance(k, Written)}
            self._put_on_layers()
        found: dict[str, tuple[Any, ...] | None] = {}
        for name in names:
            values = [vars(run.module).get(name) for run in self.runs]
            if any(map(is_record, values)):
                now = tuple(self._record(i, name, v) for i, v in enumerate(values))
                before = _held(context, name)
                if context.may_follow(name):
                    found[name] = now
                elif [dict(numbers_by_place(v)) for v in now] != [dict(numbers_by_place(v)) for v in before]:
                    found[name] = now if all(map(partial(context.may_change, name), before, now)) else tuple(before)
            elif reads := reads_of(values):
                if context.may_follow(name):
                    found[name] = None if reads & self.torn else tuple(again(values, self.numbers))
                if reads <= self.known - self.torn:
                    for path, value in zip(context.paths, again(values, self.numbers), strict=True):
                        self._expect(path, name, value)
        return found

    def _expect(self, path: str, name: str, value: Any) -> None:
        self.notes.expected.setdefault(path, {})[name] = value

    def _record(self, index: int, name: str, value: Any) -> Any:
        """A record with the numbers that layers have now; those of several widths stay and are told."""
        path, place = self.context.paths[index], f"{self.context.author.cls.__qualname__}.{name}"
        for words, number in numbers_by_place(value, place):
            written_twice = not reads_of(number) & self.known and int(number) in self.context.cut[index]
            if self._is_several(number) or (isinstance(number, Traced) and written_twice):
                self.notes.doubts.add((path, name, words))
        self._expect(path, name, new := self._now(value))
        return new

    def _now(self, value: Any) -> Any:
        """A value with the numbers that are known."""
        numbers, torn = self.numbers, self.torn
        return renewed(value, lambda n: numbers.get(alone(n), n.again({})) if n.reads & torn else n.again(numbers))

    def _is_several(self, value: Any) -> bool:
        """Whether it was computed from a number that would have to be several."""
        return bool(reads_of(value) & self.torn) and alone(value) not in self.numbers

    def _put_on_layers(self) -> None:
        """What the outermost class puts on layers and only scripts read: numbers of channels, or of parameters."""
        for path, made, live, first in twins(self.context, 0, self.runs[0]):
            if not path or first is None:
                continue
            counts = {_parameters(first)} - {_parameters(live), 0}
            found = {
                n: v for n, v in vars(made).items() if reads_of(v) & self.known or (type(v) is int and v in counts)
            }
            for name in found.keys() & self.context.from_outside(live) - self.context.running if found else ():
                value, mine = found[name], self.notes.expected.setdefault(path, {})
                if self._is_several(value):
                    self.notes.doubts.add((path, name, f"{type(made).__qualname__}.{name}"))
                else:
                    mine.setdefault(name, self._now(value) if reads_of(value) else _parameters(live))


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _held(context: ClassContext, name: str) -> list[Any]:
    return [vars(live).get(name) for live in context.live]
