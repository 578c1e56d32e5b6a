"""How much a network suffers when one layer is pruned and nothing else: loss and accuracy against the ratio.

A series is one layer with one metric and one ranking (which go first). At every ratio the layer loses
``round(size * ratio / 100)`` of its channels, or of its kernels, from the whole network: layers are reset before each
point. Channels are sliced away; a kernel's weights, as the layer computes with them, become zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from ..costs import quantizer_of
from ..errors import Interrupted, UnknownNameError, UnsuitedError
from ..graph import ChannelGraph, Realize, Width
from ..metrics import FIRST, KERNEL_METRICS, METRICS, Batch, rank
from ..run import ConvBase, StopRequest
from ..slicing import zero_kernels
from .ledger import Ledger
from .prefix_cache import PrefixCache
from .problem import Evaluate

RATIOS = tuple(range(0, 100, 10))  # percent


@dataclass(frozen=True)
class Point:
    """``removed`` of ``size`` channels or kernels are gone, for a wanted ``ratio`` in percent. ``loss`` is None when it
    was not finite."""

    layer: str
    metric: str
    ranking: str
    ratio: int
    removed: int
    size: int
    loss: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Series:
    """``order``: in which they go; ``step``: how many go together; ``without(removed)``: the network that is left."""

    layer: str
    metric: str
    ranking: str
    order: tuple[int, ...]
    without: Callable[[tuple[int, ...]], nn.Module]
    step: int = 1

    def removed(self, ratio: int) -> tuple[int, ...]:
        """What goes at a ratio in percent; something always stays."""
        size = len(self.order)
        number = min(round(size * ratio / 100), size - self.step)
        return tuple(sorted(self.order[: number - number % self.step]))


def series_of(
    model: nn.Module,
    graph: ChannelGraph,
    realize: Realize,
    metrics: Sequence[str],
    rankings: Sequence[str] = FIRST,
    batches: Sequence[Batch] | None = None,
    seed: int = 0,
) -> list[Series]:
    """Every width with every metric and ranking; with the kernel metrics every convolution that quantizes its weights.

    "random" doesn't look at the metric, so it is there once for each layer, as the metric ``random`` (of kernels:
    ``random_kernel``). Raises UsageError for unknown names and networks that a metric can't judge.
    """
    for name in metrics:
        if name not in KERNEL_METRICS:
            METRICS.find(name)
    unknown = [name for name in rankings if name not in FIRST]
    if unknown:
        raise UnknownNameError(f"unknown ranking {unknown[0]!r}, known are {', '.join(FIRST)}")
    ordered = [name for name in FIRST if name in rankings and name != "random"]
    of_channels = [name for name in metrics if name not in KERNEL_METRICS]
    of_kernels = [name for name in metrics if name in KERNEL_METRICS]
    pairs = [(m, r) for m in of_channels for r in ordered]
    found = []
    for metric, ranking in [*pairs, *([("random", "random")] if of_channels and "random" in rankings else [])]:
        order = rank(model, graph, metric, batches, seed, first=ranking).order
        for width in graph.widths:
            going = tuple(int(i) for i in order[width.name])
            without = _channels_gone(model, realize, width)
            found.append(Series(width.name, metric, ranking, going, without, width.step))
    return found + (_of_kernels(model, of_kernels, ordered, "random" in rankings, seed) if of_kernels else [])


def _channels_gone(model: nn.Module, realize: Realize, width: Width) -> Callable[[tuple[int, ...]], nn.Module]:
    def without(removed: tuple[int, ...]) -> nn.Module:
        gone = set(removed)
        return realize(model, {width.name: tuple(i for i in range(width.size) if i not in gone)})

    return without


def _of_kernels(
    model: nn.Module, metrics: Sequence[str], rankings: Sequence[str], random: bool, seed: int
) -> list[Series]:
    layers: dict[str, Any] = {
        n: m for n, m in model.named_modules()
        if isinstance(m, ConvBase) and quantizer_of(m) is not None
    }  # fmt: skip
    if not layers:
        raise UnsuitedError(
            f"metric {metrics[0]} is for convolutions that quantize their weights, this network has none"
        )
    found = []
    for number, (name, layer) in enumerate(layers.items()):
        orders: dict[tuple[str, str], torch.Tensor] = {}
        for metric in metrics:
            values = KERNEL_METRICS[metric](layer).flatten().float()
            orders |= {(metric, r): values.sort(stable=True, descending=r == "largest").indices for r in rankings}
        if random:
            generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
            size = layer.weight[:, :, *[0] * (layer.weight.ndim - 2)].numel()
            orders["random_kernel", "random"] = torch.randperm(size, generator=generator)
        for (metric, ranking), order in orders.items():
            found.append(Series(name, metric, ranking, tuple(order.tolist()), _kernels_gone(model, name)))
    return found


def _kernels_gone(model: nn.Module, layer: str) -> Callable[[tuple[int, ...]], nn.Module]:
    return lambda removed: zero_kernels(model, layer, removed)


def sweep(
    series: Sequence[Series],
    evaluate: Evaluate,
    ledger: Ledger,
    ratios: Sequence[int] = RATIOS,
    watch: Callable[[Point], None] = lambda point: None,
    cache: PrefixCache | None = None,
) -> list[Point]:
    """All points, each kept in the ledger as it is found; those it holds are not measured again.

    ``evaluate(model) -> (loss, accuracy)``. Networks that several series share, such as the whole one, are measured
    once. ``cache``: one that starts from the whole network. Raises Interrupted after Ctrl-C.
    """
    found: list[Point] = []
    known: dict[tuple[str, bool, tuple[int, ...]], tuple[float | None, float | None]] = {}
    stop = StopRequest()
    with stop.listening():
        for s, ratio in [(s, ratio) for s in series for ratio in ratios]:
            removed = s.removed(ratio)
            key = (s.layer, _kernel(s.metric), removed) if removed else ("", False, ())
            entry = ledger.recorded("point", layer=s.layer, metric=s.metric, ranking=s.ranking, ratio=ratio)
            if entry is not None:
                known[key] = entry["loss"], entry["accuracy"]
            elif key not in known:
                known[key] = _measured(s, removed, evaluate, cache or PrefixCache(0))
            point = Point(s.layer, s.metric, s.ranking, ratio, len(removed), len(s.order), *known[key])
            if entry is None:
                ledger.append("point", asdict(point))
            found.append(point)
            watch(point)
            if stop.requested:
                raise Interrupted(
                    f"interrupted after {len(found)} of {len(series) * len(ratios)} points; continue with --resume"
                )
    return found


def _kernel(metric: str) -> bool:
    return metric in KERNEL_METRICS or metric == "random_kernel"


def _measured(
    s: Series, removed: tuple[int, ...], evaluate: Evaluate, cache: PrefixCache
) -> tuple[float | None, float | None]:
    place = f"{s.layer} {_kernel(s.metric)}" if removed else ""
    loss, accuracy = (float(v) for v in cache.evaluate(place, lambda: s.without(removed), evaluate))
    return loss if math.isfinite(loss) else None, accuracy if math.isfinite(accuracy) else None


def mean_curve(points: Sequence[Point], quantity: str) -> Mapping[int, float]:
    """For every ratio the mean of "loss" or "accuracy" over the layers; those that are not finite have no part."""
    values: dict[int, list[float]] = {}
    for point in points:
        value = getattr(point, quantity)
        if value is not None:
            values.setdefault(point.ratio, []).append(value)
    return {ratio: math.fsum(v) / len(v) for ratio, v in sorted(values.items())}
