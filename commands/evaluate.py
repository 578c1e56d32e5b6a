"""``app.py evaluate``: accuracy of a bundle, or of any network, on test images."""

from __future__ import annotations

from dataclasses import asdict

from commands.console import Voice
from commands.networks import network_from
from commands.options import EvaluateOptions
from commands.subject import require_one, subject_of_bundle
from pruners.errors import UsageError
from training.loop import evaluate, resolve_device


def run(options: EvaluateOptions) -> None:
    require_one(options)
    with Voice(options.verbose, options.json) as voice:
        if options.bundle is not None:
            name, model, data = subject_of_bundle(options.bundle, options.data)
        else:
            network = network_from(options, voice)
            name, model, data = network.name, network.model, network.data
        if data is None:
            raise UsageError("measuring needs images: add --data")
        score = evaluate(model.to(resolve_device(options.device)), data.test)
    shown = f"{name}: {score.top1:.2%} of {score.images} test images of {data.name} right, loss {score.loss:.4f}"
    voice.result(shown, {"name": name, "data": data.name, **asdict(score)})
