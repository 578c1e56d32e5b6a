"""Curves as pictures: one for each metric. Needs matplotlib, which is an extra (``plots``)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.figure import Figure

from ...pruners.metrics import FIRST
from ...pruners.search import Point, mean_curve

_COLOURS = {"smallest": "tab:green", "random": "tab:blue", "largest": "tab:red"}
_RANDOM = ("random", "random_kernel")
_NAMES = {"accuracy": "validation accuracy (%)", "loss": "validation loss"}


def draw_curves(points: Sequence[Point], title: str, folder: Path) -> list[Path]:
    """Writes ``METRIC.png`` for every metric: accuracy above loss; a column for each ranking with a line per layer,
    dark for early ones, and a last one with the means over the layers."""
    metrics = list(dict.fromkeys(p.metric for p in points if p.metric not in _RANDOM))
    written = []
    for metric in metrics or list(dict.fromkeys(p.metric for p in points)):
        random = "random_kernel" if metric.endswith("_kernel") else "random"
        path = folder / f"{metric}.png"
        _figure([p for p in points if p.metric in (metric, random)], f"{title}, {metric}").savefig(path, dpi=100)
        written.append(path)
    return written


def _figure(points: Sequence[Point], title: str) -> Figure:
    rankings = [r for r in FIRST if any(p.ranking == r for p in points)]
    figure = Figure(figsize=(4 * (len(rankings) + 1), 7), layout="constrained")
    axes = figure.subplots(2, len(rankings) + 1, squeeze=False, sharex=True, sharey="row")
    what = "kernels" if any(p.metric.endswith("_kernel") for p in points) else "channels"
    for row, (quantity, name) in zip(axes, _NAMES.items(), strict=True):
        row[0].set_ylabel(name)
        for column, ranking in zip(row, rankings, strict=False):
            here = [p for p in points if p.ranking == ranking]
            _layers(column, here, quantity)
            _line(row[-1], mean_curve(here, quantity), quantity, color=_COLOURS[ranking], label=_first(ranking))
    for column, ranking in zip(axes[0], rankings, strict=False):
        column.set_title(_first(ranking))
    axes[0][-1].set_title("mean of the layers")
    axes[0][-1].legend()
    axes[0][0].legend(fontsize="xx-small", ncols=2)
    for column in axes[1]:
        column.set_xlabel(f"{what} pruned (%), one layer at a time")
    figure.suptitle(title)
    return figure


def _layers(axis: Any, points: Sequence[Point], quantity: str) -> None:
    layers = list(dict.fromkeys(p.layer for p in points))
    for number, layer in enumerate(layers):
        values = {p.ratio: getattr(p, quantity) for p in points if p.layer == layer}
        _line(axis, values, quantity, color=colormaps["viridis"](number / max(1, len(layers) - 1)), label=layer)


def _line(axis: Any, values: Any, quantity: str, **style: Any) -> None:
    factor = 100 if quantity == "accuracy" else 1
    axis.plot(list(values), [math.nan if v is None else factor * v for v in values.values()], marker=".", **style)


def _first(ranking: str) -> str:
    return "random" if ranking == "random" else f"{ranking} first"
