"""``app.py evaluate``: accuracy on images, perplexity of text, or the user's own measure, of bundles and networks."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from torch import Tensor, nn

from ..pruners.errors import NeedsDataError, OutputError, UnsuitedError
from ..pruners.measure import Measure
from ..training.data import Data, damaged_in, foretelling, require_labels, with_workers
from ..training.fit import EVALUATION_BATCH, evaluate, memory_explained, resolve_device
from .cli import EvaluateOptions, require_one
from .network import Foretelling, Network, network_from, subject_of_bundle
from .show import Voice, skipped, table

_OTHERS = "measure it by a function of yours, --score FILE.py:FUNCTION"
_SHOWN = 20
"""A table with more classes is not read: then the most frequent mistakes are shown."""


def run(options: EvaluateOptions) -> None:
    require_one(options)
    measure = Measure.named(options.score, options.score_seconds) if options.score else None
    with Voice(options.verbose, options.json) as voice:
        if options.bundle is not None:
            name, model, data = subject_of_bundle(options.bundle, options.data, measure is None, _OTHERS)
        else:
            network = network_from(options, voice)
            name, model, data = network.name, network.model, network.data
            if network.weights is None and network.entry.folder is None:
                voice.remark(_untrained(network))
        if measure is not None:
            number = measure(model.to(resolve_device(options.device)))
            return voice.result(f"{name}: {measure.name} {number:.6g}", {"name": name, "score": {measure.name: number}})
        if data is None:
            raise NeedsDataError("measuring needs images or text: add --data, or --score with a measure of your own")
        if data.is_text:
            return voice.result(*_of_text(options, name, model, data))
        require_labels(data, "measuring")
        data, batch = with_workers(data, options.workers), options.batch_size or EVALUATION_BATCH
        with memory_explained(lambda: f"with {batch} images at a time: take a smaller --batch-size"):
            score = evaluate(model.to(resolve_device(options.device)), data.test, batch_size=batch)
            shown, counted = _confusion(options, model, data, batch)
        five = f", {score.top5:.2%} among the first five" if data.num_classes >= 5 else ""
        if options.draw is not None:
            _draw(options.draw, model, data, f"{name} on {data.name}: {score.top1:.2%} right", options.seed)
            voice.remark(f"{options.draw}: 16 test images with what they are taken for")
        if damaged := damaged_in(data):
            voice.remark(skipped(damaged))
    first = f"{name}: {score.top1:.2%} of {score.images} test images of {data.name} right{five}, loss {score.loss:.4f}"
    voice.result([first, *shown], {"name": name, "data": data.name, **asdict(score), **counted})


def _of_text(options: EvaluateOptions, name: str, model: nn.Module, data: Data) -> tuple[str, dict[str, Any]]:
    """What foretelling the next token of the held-out text comes to, for people and as values."""
    asked = {"--confusion": options.confusion, "--confusion-csv": options.confusion_csv, "--draw": options.draw}
    if option := next((name for name, value in asked.items() if value), None):
        raise UnsuitedError(f"{option} is for classes of images; of text the perplexity is told")
    network = Foretelling(name, model, _OTHERS).to(resolve_device(options.device))
    batch = options.batch_size or EVALUATION_BATCH
    with memory_explained(lambda: f"with {batch} sequences at a time: take a smaller --batch-size"):
        score = evaluate(network, foretelling(data).test, batch_size=batch)
    perplexity = math.exp(score.loss)
    told = (
        f"{name}: perplexity {perplexity:.3f} on {score.images:,} held-out tokens ({len(data.test)} sequences of "
        f"{data.input_shape[0]}), {score.top1:.2%} of them foretold"
    )
    values = {"name": name, "data": data.name, "perplexity": perplexity, "tokens": score.images}
    return told, {**values, "loss": score.loss, "top1": score.top1, "top5": score.top5}


def _untrained(network: Network) -> str:
    told = f"no --weights: {network.name} is measured as its factory returns it"
    there = network.arch and network.data is not None and network.pretrained.exists()
    return f"{told}; there are trained ones in {network.pretrained}" if there else told


def _confusion(
    options: EvaluateOptions, model: nn.Module, data: Data, batch_size: int
) -> tuple[list[RenderableType], dict[str, Any]]:
    """What is to be shown of the mistakes, for people and as values."""
    if not (options.confusion or options.confusion_csv):
        return [], {}
    from ..training.fit import confusion, confusion_csv

    counts = confusion(model, data.test, data.num_classes, batch_size=batch_size)
    if options.confusion_csv is not None:
        _write(options.confusion_csv, confusion_csv(counts, data.classes).encode())
    if not options.confusion:
        return [], {}
    return [_table(counts, data.classes)], {"classes": list(data.classes), "confusion": counts.tolist()}


def _table(counts: Tensor, classes: tuple[str, ...]) -> RenderableType:
    from ..training.fit import mistakes

    if len(classes) > _SHOWN:
        shown = table("most frequent mistakes", "is", "taken for", "#images")
        for true, taken, count in mistakes(counts, classes):
            shown.add_row(true, taken, str(count))
        return shown
    shown = table("confusion", "is / taken for", *(f"#{name}" for name in classes))
    for name, row in zip(classes, counts.tolist(), strict=True):
        shown.add_row(name, *(str(n) if n else "." for n in row))
    return shown


def _draw(path: Path, model: nn.Module, data: Data, title: str, seed: int) -> None:
    import io

    if len(data.input_shape) != 3:
        raise UnsuitedError(f"--draw shows images, and the inputs of {data.name} are {data.input_shape}")
    from ..training.fit import prediction_grid

    picture = io.BytesIO()
    prediction_grid(model, data.test, data.classes, title, seed).save(picture, "PNG")
    _write(path, picture.getvalue())


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise OutputError(f"{path} can't be written: {error.strerror}") from None
