"""Two texts side by side: which lines belong together, and which words of them changed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

_AROUND = 3  # unchanged lines that are shown before and after a change
_MOST = 2500  # pairs of lines that are looked at for what is alike, which takes long
_WORDS = re.compile(r"\w+|\s+|.")


@dataclass(frozen=True)
class Piece:
    """A part of a line; ``changed`` where the other side has something else there."""

    text: str
    changed: bool


@dataclass(frozen=True)
class Line:
    """A line of either side with its number, from 1; None where that side has none. ``same``: on both sides alike."""

    before: tuple[Piece, ...] | None
    after: tuple[Piece, ...] | None
    numbers: tuple[int | None, int | None]
    same: bool = False


@dataclass(frozen=True)
class Hunk:
    """Lines that follow each other, and how many unchanged ones are left out before them."""

    left_out: int
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Change:
    """What became of a class or a function. ``file``: where the author wrote it; empty where it is new."""

    name: str
    file: str
    hunks: tuple[Hunk, ...]
    left_out: int
    removed: int
    added: int


def changes(source: Sequence[Mapping[str, str]], after: Mapping[str, str]) -> list[Change]:
    """The classes and functions that were written otherwise. ``source``: ``name``, ``file`` and ``text`` of the
    author's; ``after``: name -> text in the generated file."""
    pairs = [(s, after[s["name"]]) for s in source if s["name"] in after]
    return [_change(s, new) for s, new in pairs if s["text"].rstrip() != new.rstrip()]


def _change(before: Mapping[str, str], after: str) -> Change:
    lines = side_by_side(before["text"].rstrip().splitlines(), after.rstrip().splitlines())
    hunks, left_out = _folded(lines)
    removed, added = (sum(not x.same and getattr(x, side) is not None for x in lines) for side in ("before", "after"))
    return Change(before["name"], before["file"], hunks, left_out, removed, added)


def side_by_side(before: Sequence[str], after: Sequence[str]) -> list[Line]:
    """All lines of both, paired where they are alike."""
    found: list[Line] = []
    first, second = 0, 0
    for old, new in _pairs(before, after):
        first, second = first + (old is not None), second + (new is not None)
        numbers = (first if old is not None else None, second if new is not None else None)
        if old is None or new is None:
            one, other = (None if text is None else (Piece(text, False),) for text in (old, new))
            found.append(Line(one, other, numbers))
        elif old == new:
            found.append(Line((Piece(old, False),), (Piece(new, False),), numbers, same=True))
        else:
            found.append(Line(*_words(old, new), numbers))
    return found


def _pairs(before: Sequence[str], after: Sequence[str]) -> Iterator[tuple[str | None, str | None]]:
    """Lines that are the same, and between them those that are alike, in pairs; long stretches pair by place."""
    for tag, a, b, c, d in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        alike = tag == "replace" and (b - a) * (d - c) <= _MOST
        yield from (_alike if alike else zip_longest)(before[a:b], after[c:d])


def _alike(before: Sequence[str], after: Sequence[str]) -> Iterator[tuple[str | None, str | None]]:
    """``difflib.ndiff`` says which lines are alike: it writes them one below the other, and a line of marks (``?``)
    below one of them or both."""
    lines = [(line[0], line[2:]) for line in difflib.ndiff(before, after, charjunk=None)]
    old: list[str] = []
    new: list[str] = []
    at = 0
    while at < len(lines):
        marks = "".join(mark for mark, _ in lines[at : at + 4])
        alike = next((m for m in ("-?+?", "-?+", "-+?") if marks.startswith(m)), "")
        if alike or marks[0] == " ":
            yield from zip_longest(old, new)
            old, new = [], []
            yield lines[at][1], lines[at + alike.find("+") if alike else at][1]
        else:
            (old if marks[0] == "-" else new).append(lines[at][1])
        at += len(alike) or 1
    yield from zip_longest(old, new)


def _words(old: str, new: str) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
    """Both lines in pieces, by what their words have in common."""
    first, second = _WORDS.findall(old), _WORDS.findall(new)
    sides: tuple[list[Piece], list[Piece]] = ([], [])
    for tag, a, b, c, d in difflib.SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        for side, words in zip(sides, (first[a:b], second[c:d]), strict=True):
            if words:
                side.append(Piece("".join(words), tag != "equal"))
    return tuple(sides[0]), tuple(sides[1])


def _folded(lines: Sequence[Line]) -> tuple[tuple[Hunk, ...], int]:
    """The changed lines with some around them, and how many are left out behind the last."""
    near = {j for i, x in enumerate(lines) if not x.same for j in range(i - _AROUND, i + _AROUND + 1)}
    shown = [i for i in range(len(lines)) if i in near]
    hunks: list[tuple[int, list[Line]]] = []
    last = -1
    for i in shown:
        if i > last + 1 or not hunks:
            hunks.append((i - last - 1, []))
        hunks[-1][1].append(lines[i])
        last = i
    return tuple(Hunk(n, tuple(found)) for n, found in hunks), len(lines) - 1 - last
