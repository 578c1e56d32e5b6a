"""The channel graph as a picture: a row for each layer in forward order, beside them a line for each width that joins
the layers which make its channels and those which read them, and how much of it stays."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...plan import PruningPlan

_ROW, _TOP = 20, 8
_LETTER, _INDENT, _MARGIN = 7.3, 10.0, 6.0
_LANE, _STAY = 16.0, 18.0
_BAR, _NUMBERS = 56.0, 84.0
_APART = 4.0  # a layer reads above the middle of its row and makes below it
_SHARES = ((1.0, "all"), (0.75, "most"), (0.5, "half"), (0.25, "some"), (0.0, "few"))


@dataclass(frozen=True)
class Row:
    """A layer, or the head of a block of them (``head``), whose name its layers leave out. ``bar``: the width of what
    stays of the channels it makes; ``stays``: why some of its channels must."""

    text: str
    name: str
    kind: str
    y: float
    x: float
    head: bool
    widths: tuple[int, ...] = ()
    bar: float | None = None
    share: str = ""
    numbers: str = ""
    stays: str = ""


@dataclass(frozen=True)
class Dot:
    """Where a layer makes (``out``), reads (``in``) or carries (``per``) the channels of a width."""

    y: float
    role: str
    label: str


@dataclass(frozen=True)
class Strand:
    """A width: a line from ``top`` to ``bottom`` at ``x``. ``share``: how much of it stays, as a class for colour."""

    number: int
    name: str
    size: int
    kept: int
    share: str
    x: float
    top: float
    bottom: float
    dots: tuple[Dot, ...]
    layers: Mapping[str, Sequence[str]]
    ties: Sequence[Mapping[str, str]]

    @property
    def told(self) -> str:
        makes, reads = (", ".join(self.layers[role]) or "none" for role in ("out", "in"))
        return f"{self.name}: {self.kept} of {self.size} channels stay; made by {makes}; read by {reads}"


@dataclass(frozen=True)
class Picture:
    """``stays_x``, ``bar_x`` and ``numbers_x``: where its columns begin."""

    width: float
    height: float
    stays_x: float
    bar_x: float
    numbers_x: float
    rows: tuple[Row, ...]
    strands: tuple[Strand, ...]
    bar_width = _BAR
    row_height = _ROW


def share_of(kept: int, size: int) -> str:
    """The class of a width by the share of it that stays."""
    return next(name for least, name in _SHARES if kept >= least * size)


def picture(plan: PruningPlan, details: Mapping[str, Any], frozen: Sequence[Mapping[str, Any]]) -> Picture | None:
    """None where the bundle doesn't say which layers there are."""
    widths, layers = details.get("widths") or {}, details.get("layers") or []
    if not widths or not layers:
        return None
    of_layer: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    for number, width in enumerate(widths.values()):
        for role in ("in", "per", "out"):
            for layer in width[role]:
                of_layer[layer].append((number, role))
    reasons: defaultdict[str, list[str]] = defaultdict(list)
    for item in frozen:
        for layer in item["layers"]:
            where = f" ({item['place']})" if item["place"] else ""
            reasons[layer].append(f"{item['channels']} channels must stay: {item['reason']}{where}")
    kinds = {x["name"]: x["kind"] for x in layers if x["macs"][0] or _joins(of_layer[x["name"]]) or reasons[x["name"]]}
    kinds |= {n: "" for n in (*of_layer, *reasons) if n not in kinds and (reasons[n] or _joins(of_layer[n]))}
    split = {name: _split(name) for name in kinds}
    labels = max([len(rest) * _LETTER + _INDENT * bool(block) for block, rest in split.values()]
                 + [len(block) * _LETTER for block, _ in split.values()])  # fmt: skip
    placed, y = dict[str, float](), _TOP + _ROW / 2
    heads: list[Row] = []
    last = ""
    for name, (block, _) in split.items():
        if block and block != last:
            heads.append(Row(block, block, "", y, _MARGIN, True))
            y += _ROW
        placed[name], last, y = y, block, y + _ROW
    lanes = _lanes({i: [placed[n] for n in of_layer if n in placed and any(j == i for j, _ in of_layer[n])]
                    for i in range(len(widths))})  # fmt: skip
    stays_x = _MARGIN + labels + 8
    bar_x = stays_x + _STAY + _LANE * (max(lanes.values(), default=0) + 1) + 8
    made = details.get("channels") or {}
    strands = tuple(
        _strand(i, name, plan, width, placed, stays_x + _STAY + _LANE * (lanes[i] + 0.5))
        for i, (name, width) in enumerate(widths.items()) if i in lanes and name in plan.widths
    )  # fmt: skip
    rows = [
        _row(name, kind, split[name], placed[name], of_layer[name], reasons[name], made.get(name))
        for name, kind in kinds.items()
    ]
    numbers_x = bar_x + _BAR + 6
    everything = tuple(sorted([*heads, *rows], key=lambda r: r.y))
    return Picture(numbers_x + _NUMBERS, y, stays_x, bar_x, numbers_x, everything, strands)


def _joins(uses: Sequence[tuple[int, str]]) -> bool:
    """Whether a layer makes or reads channels; a norm, which only carries them, gets no row."""
    return any(role != "per" for _, role in uses)


def _split(name: str) -> tuple[str, str]:
    """A layer's block and its name within it: a block ends with the first number, or where the layer's name begins."""
    parts = name.split(".")
    numbers = [i for i, part in enumerate(parts[:-1]) if part.isdigit()]
    end = numbers[0] + 1 if numbers else len(parts) - 1
    return ".".join(parts[:end]), ".".join(parts[end:])


def _lanes(places: Mapping[int, Sequence[float]]) -> dict[int, int]:
    """Which lane every width's line runs in: short ones first, near the names; two share a lane where one begins at the
    row where the other ends."""
    spans = {i: (min(ys), max(ys)) for i, ys in places.items() if ys}
    taken: list[list[tuple[float, float]]] = []
    lanes: dict[int, int] = {}
    for i, (top, bottom) in sorted(spans.items(), key=lambda item: (item[1][1] - item[1][0], item[1])):
        free = (n for n, lane in enumerate(taken) if all(bottom <= a or b <= top for a, b in lane))
        lanes[i] = next(free, len(taken))
        if lanes[i] == len(taken):
            taken.append([])
        taken[lanes[i]].append((top, bottom))
    return lanes


def _strand(
    number: int, name: str, plan: PruningPlan, width: Mapping[str, Any], placed: Mapping[str, float], x: float
) -> Strand:
    aside, words = {"in": -_APART, "per": 0.0, "out": _APART}, {"in": "reads", "per": "carries", "out": "makes"}
    dots = [
        Dot(placed[layer] + aside[role], role, f"{layer} {words[role]} these channels")
        for role in aside for layer in width[role] if layer in placed
    ]  # fmt: skip
    known = plan.widths[name]
    kept, ys = len(known.kept), [d.y for d in dots]
    layers = {role: width[role] for role in aside}
    return Strand(
        number, name, known.size, kept, share_of(kept, known.size), x, min(ys), max(ys),
        tuple(sorted(dots, key=lambda d: d.y)), layers, width["ties"],
    )  # fmt: skip


def _row(
    name: str, kind: str, split: tuple[str, str], y: float, uses: Sequence[tuple[int, str]], reasons: Sequence[str],
    made: Sequence[int] | None,
) -> Row:  # fmt: skip
    block, rest = split
    shown: dict[str, Any] = {}
    if made:
        size, kept = made
        shown = {"bar": round(_BAR * kept / size, 1), "share": share_of(kept, size), "numbers": f"{kept}/{size}"}
    return Row(
        rest or kind, name, kind, y, _MARGIN + _INDENT * bool(block), False, tuple(dict.fromkeys(i for i, _ in uses)),
        stays="; ".join(reasons), **shown,
    )  # fmt: skip
