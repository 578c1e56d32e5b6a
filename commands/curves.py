"""``app.py curves``: accuracy and loss against the pruned share of each layer, by metric and ranking."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from ..pruners.errors import NeedsDataError
from ..pruners.metrics import FIRST
from ..pruners.outputs import held
from ..pruners.plan import sha256_of_state
from ..pruners.search import RATIOS, Ledger, Point, PrefixCache, mean_curve, series_of, sweep
from ..training.binarization.kinds import quantized_layers
from ..training.data import require_labels
from ..training.fit import evaluate, resolve_device
from .cli import GENERATED, CurvesOptions, check_curves
from .network import Network, network_from, new_pruner, with_trained_weights
from .show import Voice, table

OF_FEW_BITS = ("angle", "distance", "angle_next_layer", "distance_next_layer")
_RANKING_IMAGES = 256
NO_MATPLOTLIB = (
    "no pictures, which need a package: pip install -e '.[plots]' (matplotlib), then run the same command "
    "with --resume, which measures nothing again"
)


def run(options: CurvesOptions) -> None:
    with Voice(options.verbose, options.json) as voice, ExitStack() as stack:
        network = network_from(options, voice)
        if network.data is None:
            raise NeedsDataError("curves are measured on images: add --data")
        require_labels(network.data, "measuring curves")
        output = options.output or GENERATED / f"{network.label}_curves"
        stack.enter_context(held(output / "curves.jsonl"))
        file = _free(output / "curves.jsonl", options)
        network = with_trained_weights(network, voice, options.seed, options.device)
        points = _measure(network, options, file, voice)
        pictures = _draw(points, network, output, voice)
    values = {
        "file": str(file),
        "pictures": [str(p) for p in pictures],
        "points": [asdict(p) for p in points],
    }
    voice.result([_means_table(network.name, points), "", *map(str, [file, *pictures])], values)


def _free(file: Path, options: CurvesOptions) -> Path:
    check_curves(file, options)
    if options.force and not options.resume:
        file.unlink(missing_ok=True)
    return file


def _measure(network: Network, options: CurvesOptions, file: Path, voice: Voice) -> list[Point]:
    data = network.data
    assert data is not None
    metrics = options.metric or (OF_FEW_BITS if any(True for _ in quantized_layers(network.model)) else ("l1",))
    rankings = options.ranking or FIRST
    pruner = new_pruner(network, skip=options.skip, tied=options.tie_declared)
    batches = list(data.train.sample(_RANKING_IMAGES, options.seed).batches(64))
    series = series_of(
        network.model, pruner.graph, lambda model, kept: pruner.realize(kept, model), metrics, rankings, batches,
        options.seed,
    )  # fmt: skip
    device = resolve_device(options.device)
    settings = {
        "metrics": list(metrics), "rankings": list(rankings), "ratios": list(RATIOS), "skip": list(options.skip),
        "seed": options.seed, "data": network.facts["data"], "images": len(data.val),
        "weights": sha256_of_state(network.model.state_dict()),
        **({"tied": True} if options.tie_declared else {}),
    }  # fmt: skip

    def measure(model: nn.Module) -> tuple[float, float]:
        score = evaluate(model.to(device), data.val)
        return score.loss, score.top1

    def watch(point: Point) -> None:
        accuracy = "not finite" if point.accuracy is None else f"{point.accuracy:.1%}"
        voice.progress.advance(1, f"{point.layer}, {point.metric}, {point.ranking}, -{point.ratio} %: {accuracy}")

    cache = PrefixCache(int(options.cache_gb * 1e9))
    cache.start_from(lambda: pruner.realize({}))
    voice.progress.start(len(series) * len(RATIOS), "measuring curves")
    try:
        with Ledger(file, settings, options.resume, what="sweep") as ledger:
            points = sweep(series, measure, ledger, watch=watch, cache=cache)
    finally:
        voice.progress.finish()
    if cache.speed.evaluations:
        voice.remark(cache.speed.tell())
    return points


def _draw(points: Sequence[Point], network: Network, output: Path, voice: Voice) -> list[Path]:
    if importlib.util.find_spec("matplotlib") is None:
        voice.remark(NO_MATPLOTLIB)
        return []
    from .show import pictures

    return pictures.draw_curves(points, network.label, output)


def _means_table(name: str, points: Sequence[Point]) -> Any:
    """Means over the layers."""
    shown = table(f"{name}: mean accuracy over the layers", "metric", "first", *(f"#{r} %" for r in RATIOS))
    for metric, ranking in dict.fromkeys((p.metric, p.ranking) for p in points):
        means = mean_curve([p for p in points if (p.metric, p.ranking) == (metric, ranking)], "accuracy")
        shown.add_row(metric, ranking, *(f"{means[r]:.1%}" if r in means else "" for r in RATIOS))
    return shown
