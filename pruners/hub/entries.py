"""Which entries of a configuration count which axes, found by asking: a network is made with another number, on no
device, and the axes that change are those it counts."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

Path = tuple[str | int, ...]
Axis = tuple[str, int]
Shapes = Mapping[str, tuple[int, ...]]
ShapesOf = Callable[[Mapping[str, Any]], Shapes | None]
"""A configuration's values -> the shapes of what is made of it, or None where nothing can be."""

_STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64)


@dataclass(frozen=True)
class Entry:
    """A number in a configuration. ``slopes``: how much an axis grows when it does by one."""

    path: Path
    value: int | float
    slopes: Mapping[Axis, Fraction] = field(compare=False)

    @property
    def name(self) -> str:
        """As in ``vision_config.hidden_size`` or ``hidden_sizes.0``."""
        return ".".join(map(str, self.path))


def entries(
    values: Mapping[str, Any], shapes_of: ShapesOf, sizes: Sequence[int] = (), missing: Sequence[str] = ()
) -> list[Entry]:
    """The numbers of a configuration with what they count; none of which other tensors come. ``sizes``: what an entry
    that is None may stand for: the library makes a number up then, such as four times another. ``missing``: names that
    it would read, too, but aren't there."""
    shapes = shapes_of(values)
    assert shapes is not None
    found: list[Entry] = []
    for path, value in (*numbers_in(values), *(((name,), None) for name in missing)):
        if value is None:
            found += _made_up(values, path, shapes, shapes_of, sizes)
        else:
            slopes = _slopes(values, path, value, shapes, shapes_of)
            if slopes is not None:
                found.append(Entry(path, value, slopes))
    return found


def _made_up(
    values: Mapping[str, Any], path: Path, shapes: Shapes, shapes_of: ShapesOf, sizes: Sequence[int]
) -> Iterator[Entry]:
    for size in dict.fromkeys(sizes):
        written = changed(values, {path: size})
        if shapes_of(written) == shapes:
            slopes = _slopes(written, path, size, shapes, shapes_of)
            if slopes:
                yield Entry(path, size, slopes)
                return


def numbers_in(values: Any, path: Path = ()) -> Iterator[tuple[Path, int | float | None]]:
    """Numbers, and what is None, in dicts and lists, in order."""
    items: Any = values.items() if isinstance(values, Mapping) else enumerate(values)
    for name, value in items:
        if isinstance(name, str) and name.startswith("_"):
            continue
        if isinstance(value, (list, tuple)) or (isinstance(value, Mapping) and all(isinstance(k, str) for k in value)):
            yield from numbers_in(value, (*path, name))
        elif value is None or (isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0):
            yield (*path, name), value


def changed(values: Mapping[str, Any], numbers: Mapping[Path, Any]) -> dict[str, Any]:
    """A copy of the configuration with other numbers."""
    found = copy.deepcopy(dict(values))
    for path, value in numbers.items():
        place: Any = found
        for part in path[:-1]:
            if isinstance(place[part], tuple):
                place[part] = list(place[part])
            place = place[part]
        place[path[-1]] = value
    return found


def _slopes(
    values: Mapping[str, Any], path: Path, value: int | float, shapes: Shapes, shapes_of: ShapesOf
) -> dict[Axis, Fraction] | None:
    """Empty where the number counts nothing; None where other tensors come of another one."""
    for step in (value, *_STEPS):  # twice as much divides as well
        other = shapes_of(changed(values, {path: value + step}))
        if other is None:
            continue
        if other.keys() != shapes.keys() or any(len(other[k]) != len(shapes[k]) for k in shapes):
            return None
        return {
            (key, dim): Fraction(other[key][dim] - size) / Fraction(step)
            for key, shape in shapes.items()
            for dim, size in enumerate(shape)
            if other[key][dim] != size
        }
    return {}


@dataclass(frozen=True)
class Number:
    """Entries that count widths together. ``shares``: how many groups of each width go at a time; ``steps``: by how
    much each entry falls then; ``layer``: the only one that they count of, by its list and place."""

    entries: tuple[Entry, ...]
    shares: Mapping[str, int]
    steps: Mapping[Path, Fraction]
    layer: tuple[str, int] | None = None

    @property
    def name(self) -> str:
        name = "+".join(e.name for e in self.entries if e.slopes)
        return name if self.layer is None else f"{self.layer[0]}.{self.layer[1]}.{name}"

    def coarser(self, times: int) -> Number:
        """So many steps at a time."""
        shares = {w: times * n for w, n in self.shares.items()}
        return replace(self, shares=shares, steps={p: times * n for p, n in self.steps.items()})

    def told(self, rounds: int) -> dict[str, int | float]:
        """The same by name."""
        return {".".join(map(str, path)): value for path, value in self.values(rounds).items()}

    def values(self, rounds: int) -> dict[Path, int | float]:
        """The entries after so many steps down."""
        found: dict[Path, int | float] = {}
        for entry in self.entries:
            left = Fraction(entry.value) - rounds * self.steps[entry.path]
            found[entry.path] = int(left) if isinstance(entry.value, int) else float(left)
        return found


def number(
    chosen: Sequence[Entry], lost: Mapping[Axis, Mapping[str, float]], widths: Mapping[str, tuple[int, int]]
) -> Number | None:
    """The entries as one number of widths; None where no step down of theirs is what widths lose.

    ``lost``: for every axis how much of it goes with a group of each width. ``widths``: size of each, and in how many
    blocks its groups are, of which as many go from each.
    """
    touched = {axis for e in chosen for axis in e.slopes}
    names = sorted({w for axis in touched for w in lost.get(axis, ())})
    axes = sorted(touched | {axis for axis, parts in lost.items() if any(w in parts for w in names)})
    rows = [
        [*(_whole(lost.get(a, {}).get(w, 0)) for w in names), *(-e.slopes.get(a, Fraction(0)) for e in chosen)]
        for a in axes
    ]
    solution = _only_solution(rows, len(names) + len(chosen))
    if solution is None or not names or any(n <= 0 for n in solution):
        return None
    whole = [n / widths[w][1] for w, n in zip(names, solution, strict=False)]
    whole += [n for n, e in zip(solution[len(names) :], chosen, strict=True) if isinstance(e.value, int)]
    scale = Fraction(math.lcm(*(n.denominator for n in whole)), math.gcd(*(n.numerator for n in whole)))
    shares = {w: int(n * scale) for w, n in zip(names, solution, strict=False)}
    steps = {e.path: n * scale for e, n in zip(chosen, solution[len(names) :], strict=True)}
    return Number(tuple(chosen), shares, steps)


def in_proportion(
    chosen: Sequence[Entry], lost: Mapping[Axis, Mapping[str, float]], widths: Mapping[str, tuple[int, int]]
) -> Number | None:
    """The entries as one number, all of which fall by the same part as the widths that they touch do: a product or a
    quotient of several is no sum of steps. ``widths``: size and number of blocks."""
    touched = sorted({w for e in chosen for axis in e.slopes for w in lost.get(axis, ())})
    values = [e.value for e in chosen]
    if len(chosen) < 2 or not touched or not all(isinstance(v, int) for v in values):
        return None
    rounds = math.gcd(*(widths[w][0] // widths[w][1] for w in touched), *map(int, values))
    shares = {w: widths[w][0] // rounds for w in touched}
    return Number(tuple(chosen), shares, {e.path: Fraction(int(e.value), rounds) for e in chosen})


def _whole(number: float) -> Fraction:
    return Fraction(number).limit_denominator(10**6)


def _only_solution(rows: Sequence[Sequence[Fraction]], unknowns: int) -> list[Fraction] | None:
    """The vector that all rows give zero with, up to a factor; None where there is none, or several."""
    pivots: list[tuple[int, list[Fraction]]] = []
    for row in {tuple(r) for r in rows}:
        left = list(row)
        for column, pivot in pivots:
            if left[column]:
                left = [a - left[column] * b for a, b in zip(left, pivot, strict=True)]
        lead = next((i for i, n in enumerate(left) if n), None)
        if lead is None:
            continue
        left = [n / left[lead] for n in left]
        pivots = [(c, [a - p[lead] * b for a, b in zip(p, left, strict=True)]) for c, p in pivots]
        pivots.append((lead, left))
    free = sorted(set(range(unknowns)) - {c for c, _ in pivots})
    if len(free) != 1:
        return None
    solution = [Fraction(0)] * unknowns
    solution[free[0]] = Fraction(1)
    for column, pivot in pivots:
        solution[column] = -pivot[free[0]]
    if all(n <= 0 for n in solution):
        solution = [-n for n in solution]
    return solution
