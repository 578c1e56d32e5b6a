"""Curves with axes, as numbers that a template draws."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 420.0, 250.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 10.0, 10.0, 40.0
_LEAST = 1e-300  # between two values that differ
_STEEP = 20.0  # from this ratio of the largest to the smallest value on, an axis is logarithmic
_TICKS = 5


@dataclass(frozen=True)
class Tick:
    """``at``: where in the drawing, along its axis."""

    at: float
    label: str


@dataclass(frozen=True)
class Point:
    """``x`` and ``y`` in the drawing; ``best`` a new best of its width."""

    x: float
    y: float
    best: bool
    label: str


@dataclass(frozen=True)
class Line:
    """Points of one kind; ``joined`` by a line, or each for itself."""

    name: str
    points: tuple[Point, ...]
    joined: bool

    @property
    def path(self) -> str:
        return " ".join(f"{p.x},{p.y}" for p in self.points)


@dataclass(frozen=True)
class Chart:
    """``key``: a name for ids. ``told``: what it shows, in words."""

    key: str
    title: str
    x_label: str
    y_label: str
    told: str
    logarithmic: bool
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]

    width, height = WIDTH, HEIGHT
    left, right, top, bottom = _LEFT, WIDTH - _RIGHT, _TOP, HEIGHT - _BOTTOM


@dataclass(frozen=True)
class Series:
    """Values to draw: (x, y, label, whether it is highlighted)."""

    name: str
    values: Sequence[tuple[float, float, str, bool]]
    joined: bool = True


def evaluations_in(ledger: bytes) -> list[dict[str, Any]]:
    """The evaluations of a ``search.jsonl``."""
    entries = [json.loads(line) for line in ledger.decode("utf-8").splitlines()]
    return [e for e in entries if e.get("event") == "evaluation"]


def search_chart(evaluations: Sequence[Mapping[str, Any]]) -> Chart | None:
    """What every candidate came to, in the order of the search; None where fewer than two came to something."""
    scored = any(e.get("score") is not None for e in evaluations)
    what, value = ("score", "score") if scored else ("held-out loss", "loss")
    values = [
        (float(i), float(e[value]), f"{e['width']}: {e['kept']} kept, {what} {e[value]:.4g}", bool(e["is_best"]))
        for i, e in enumerate(evaluations, 1) if e.get(value) is not None
    ]  # fmt: skip
    return chart("search", "The search", "candidate", what, [Series("candidates", values, joined=False)])


def training_charts(epochs: Sequence[Mapping[str, float]]) -> list[Chart]:
    """Loss and accuracy of every epoch of a training; epoch 0 is the network as it came."""
    shown: dict[str, list[Series]] = {"loss": [], "accuracy on validation images": []}
    for key, name, part, form in (
        ("train_loss", "training images", "loss", "{:.4g}"), ("val_loss", "validation images", "loss", "{:.4g}"),
        ("val_top1", "validation images", "accuracy on validation images", "{:.2%}"),
    ):  # fmt: skip
        values = [
            (float(e["epoch"]), float(e[key]), f"epoch {e['epoch']}: {form.format(e[key])} on {name}", False)
            for e in epochs if e.get(key) is not None
        ]  # fmt: skip
        shown[part].append(Series(name, values))
    made = [chart(part.split()[0], "Retraining", "epoch", part, series) for part, series in shown.items()]
    return [c for c in made if c]


def healing_chart(curve: Sequence[Sequence[float]]) -> Chart | None:
    """How far outputs were from the whole network's, by steps of healing."""
    values = [(float(n), float(y), f"step {n:g}: off by {y:.4g}", False) for n, y in curve]
    return chart("healing", "Healing", "step", "distance on held-out inputs", [Series("held-out inputs", values)])


def chart(key: str, title: str, x_label: str, y_label: str, series: Sequence[Series]) -> Chart | None:
    """A chart of what is finite; None where no series has two points. Its y axis is logarithmic where the values are
    positive and the largest is ``_STEEP`` times the smallest."""
    finite = [Series(s.name, [v for v in s.values if math.isfinite(v[1])], s.joined) for s in series]
    finite = [s for s in finite if len(s.values) > 1]
    if not finite:
        return None
    xs, ys = [v[0] for s in finite for v in s.values], [v[1] for s in finite for v in s.values]
    logarithmic = min(ys) > 0 and max(ys) / min(ys) >= _STEEP
    x_of, y_of = _Axis(xs, _LEFT, WIDTH - _RIGHT, False), _Axis(ys, HEIGHT - _BOTTOM, _TOP, logarithmic)
    lines = tuple(
        Line(s.name, tuple(Point(x_of.at(x), y_of.at(y), best, label) for x, y, label, best in s.values), s.joined)
        for s in finite
    )
    count = max(len(s.values) for s in finite)
    told = f"{y_label} of {count} points along {x_label}, from {min(ys):.4g} to {max(ys):.4g}"
    whole = [t for t in x_of.ticks() if float(t[0]).is_integer()]
    return Chart(
        key, title, x_label, y_label, told, logarithmic, tuple(Tick(x_of.at(v), text) for v, text in whole),
        tuple(Tick(y_of.at(v), text) for v, text in y_of.ticks()), lines,
    )  # fmt: skip


class _Axis:
    """From values to places between ``begin`` and ``end``."""

    def __init__(self, values: Sequence[float], begin: float, end: float, logarithmic: bool) -> None:
        self.low, self.high = min(values), max(values)
        self.logarithmic = logarithmic
        if self.high - self.low < _LEAST:
            self.low, self.high = self.low - 0.5, self.high + 0.5
        self.begin, self.scale = begin, (end - begin) / (self._of(self.high) - self._of(self.low))

    def _of(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else value

    def at(self, value: float) -> float:
        return round(self.begin + (self._of(value) - self._of(self.low)) * self.scale, 1)

    def ticks(self) -> list[tuple[float, str]]:
        """Round values within the axis, a few of them, with what stands beside them."""
        values = self._decades() if self.logarithmic else self._steps()
        return [(v, f"{v:.6g}") for v in values]

    def _decades(self) -> list[float]:
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for digits in ((1,), (1, 3), (1, 2, 5)):
            found = [d * 10.0**p for p in powers for d in digits if self.low <= d * 10.0**p <= self.high]
            if len(found) >= 3:
                break
        return found[:: math.ceil(len(found) / (_TICKS + 2))]

    def _steps(self) -> list[float]:
        raw = (self.high - self.low) / _TICKS
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [float(f"{i * step:.12g}") for i in range(first, last + 1)]
