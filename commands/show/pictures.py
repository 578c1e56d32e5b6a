"""Pictures: curves of pruning, one for each metric, and speed-ups. Needs matplotlib, which is an extra (``plots``)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import colormaps, rc_context
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


def draw_speed_ups(
    path: Path, title: str, label: str, sizes: Sequence[int], lines: Mapping[str, Sequence[float]]
) -> list[Path]:
    """Writes ``path`` as SVG and as PNG: how many times faster at each size. The first line, theory, is dashed."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    for number, (name, values) in enumerate(lines.items()):
        axis.plot(sizes, values, "--" if number == 0 else "-", marker=".", label=name)
    axis.set_xscale("log", base=2) if max(sizes) > 100 else axis.set_xscale("linear")
    axis.set_xticks(sizes, [str(size) for size in sizes])
    axis.set_yscale("log")
    ticks = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
    axis.set_yticks(ticks, [f"{tick:g}x" for tick in ticks])
    axis.minorticks_off()
    axis.set_xlabel(label)
    axis.set_ylabel("speed-up (logarithmic)")
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small")
    axis.set_title(title, fontsize="medium")
    written = []
    with rc_context({"svg.hashsalt": path.name}):  # the same figure, the same file
        for ending in (".svg", ".png"):
            file = path.with_name(path.name + ending)
            figure.savefig(file, dpi=150, metadata={"Date": None} if ending == ".svg" else None)
            written.append(file)
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
