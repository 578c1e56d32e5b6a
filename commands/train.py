"""``app.py train``: train a network and keep its best weights."""

from __future__ import annotations

from commands.console import Voice
from commands.networks import PRETRAINED, network_from
from commands.options import TrainOptions
from commands.starting import chosen_regime, train_network
from pruners.errors import BundleExistsError, UsageError
from training.loop import evaluate


def run(options: TrainOptions) -> None:
    with Voice(options.verbose, options.json) as voice:
        network = network_from(options, voice)
        if network.data is None:
            raise UsageError("training needs images: add --data")
        path = options.output or (network.pretrained if network.arch else PRETRAINED / f"{network.label}.pt")
        if path.exists() and not options.force:
            raise BundleExistsError(f"{path} exists; choose another file with -o, or overwrite it with --force")
        regime = chosen_regime(options.regime, network.arch, network.model, network.data.name, "train")
        epochs = options.epochs or regime.epochs
        result = train_network(network, voice, regime, epochs, options.seed, options.device, path, options.resume)
        test = evaluate(network.model, network.data.test)
    values = {
        "weights": str(path),
        "accuracy": {"validation": result.best.val.top1, "test": test.top1},
        "epochs": epochs,
        "best_epoch": result.best.number,
    }
    shown = f"{path}: epoch {result.best.number} of {epochs} is best, test accuracy {test.top1:.2%}"
    voice.result(shown, values)
