"""``app.py train``: train a network and keep its best weights."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from ..pruners.errors import NeedsDataError, ResumeError, UnsuitedError
from ..pruners.metrics import USUAL_SPARSITY, Sparsity
from ..pruners.outputs import held
from ..training.data import damaged_in, number_of_steps, require_labels
from ..training.fit import (
    Epoch,
    Regime,
    Watch,
    beside,
    check_writable,
    curve_beside,
    evaluate,
    is_main,
    load_checkpoint,
    memory_explained,
    resolve_device,
    tensorboard_beside,
)
from .cli import PRETRAINED, TrainOptions, check_trained, unfinished
from .network import (
    Network,
    adjusted,
    chosen_regime,
    execution,
    network_from,
    new_pruner,
    served,
    start_renamed,
    train_network,
)
from .show import Voice, skipped


def run(options: TrainOptions) -> None:
    silent = not is_main()
    with Voice(-1 if silent else options.verbose, options.json, options.print_freq) as voice, ExitStack() as stack:
        network = network_from(options, voice)
        if network.data is None:
            raise NeedsDataError("training needs images: add --data")
        require_labels(network.data, "training")
        data = served(network.data, options)
        network = replace(network, data=data)
        usual = network.pretrained if network.arch else PRETRAINED / f"{network.label}.pt"
        path = options.output or (options.save_dir or usual.parent) / usual.name
        check_writable(path)
        if is_main():
            stack.enter_context(held(path))
        if options.resume_from is not None:
            _take_up(options.resume_from, path)
        check_trained(path, options)
        network = _begun(network, path, options, voice)
        regime = _regime(options, network, data.name)
        voice.detail(f"regime {regime.name}: {regime.source}")
        sparsity = None if options.sparsify is None else _sparsity(options.sparsify, options, network, regime)
        if sparsity is not None:
            voice.remark(f"sparsity: {sparsity.kind}, with a strength that grows to {sparsity.strength:.3g}")
        result = train_network(
            network, voice, regime, options.seed, options.device, path, beside(path, ".last.pt"),
            resume=options.resume, save_every=options.save_every, watch=_watch(options, path),
            execution=execution(options), penalty=sparsity,
        )  # fmt: skip
        if not is_main():
            return
        with memory_explained(lambda: f"measuring on {len(data.test)} test images; the weights are in {path}"):
            test = evaluate(network.model.to(resolve_device(options.device)), data.test)
        if damaged := damaged_in(data):
            voice.remark(skipped(damaged))
    values: dict[str, Any] = {
        "weights": str(path),
        "accuracy": {"validation": result.best.val.top1, "test": test.top1},
        "epochs": regime.epochs,
        "best_epoch": result.best.number,
        "test": asdict(test),
    }
    best = f"epoch {result.best.number} of {regime.epochs} is best"
    if sparsity is not None:
        sparse, groups = sparsity.sparse(network.model)
        values["sparsity"] = {"kind": sparsity.kind, "strength": sparsity.strength, "sparse": sparse, "groups": groups}
        metric = {"bn": "--metric bn_scale --search global", "group": "--metric l2"}[sparsity.kind]
        more = f"prune with {metric}" if sparse else "for more, train longer or raise --sparsity"
        best = f"{sparse} of {groups} channels that may go are close to zero ({more})"
    if not result.best.number:
        best = f"none of {regime.epochs} epochs was better than the weights it began with"
    voice.result(f"{path}: {best}, test accuracy {test.top1:.2%}", values)


def _take_up(checkpoint: Path, path: Path) -> None:
    """Go on with the training that wrote this checkpoint, as the one that is to give the weights ``path``."""
    draft = unfinished(path)
    if draft.exists() and draft.samefile(checkpoint):
        return
    if draft.exists():
        raise ResumeError(f"{draft} holds another unfinished run: choose another file with -o, or go on with that one")
    if "settings" not in load_checkpoint(checkpoint).training:
        raise ResumeError(f"{checkpoint} holds weights only, no training to resume: take it with --weights")
    shutil.copyfile(checkpoint, draft)


def _begun(network: Network, path: Path, options: TrainOptions, voice: Voice) -> Network:
    """A file that was renamed to be this network's is where its training begins."""
    fresh = options.resume and not (options.force or options.weights or options.init_from)
    if not fresh or network.chosen is None or not path.is_file() or unfinished(path).exists():
        return network
    kind = start_renamed(network.model, network.chosen, path)
    voice.remark(f"starting from {path}, which holds the weights of a {kind} network")
    return replace(network, weights=path)


def _regime(options: TrainOptions, network: Network, data_name: str) -> Regime:
    regime = chosen_regime(options.regime, network.arch, network.model, data_name, "train", network.kind)
    return adjusted(regime.lasting(options.epochs or regime.epochs), options)


def _sparsity(kind: Literal["bn", "group"], options: TrainOptions, network: Network, regime: Regime) -> Sparsity:
    """What pushes the channels down that the network's pruner may take. Raises UsageError where it would be in vain."""
    assert network.data is not None
    few = network.kind
    if few is not None and kind == "group" and few.weight_quantizer is not None:
        raise UnsuitedError(
            f"--sparsify group: {few.name} computes with few bits of its weights, however small they are"
        )
    if few is not None and kind == "bn" and few.activation_bits == 1:
        raise UnsuitedError(
            f"--sparsify bn: {few.name} takes the signs of what its norms scale, and signs have no size"
        )
    graph = new_pruner(network).graph
    steps = regime.epochs * number_of_steps(len(network.data.train), regime.batch_size)
    return Sparsity.of(network.model, graph, kind, options.sparsity or USUAL_SPARSITY[kind] / steps)


def _watch(options: TrainOptions, path: Path) -> Watch | None:
    if not is_main():
        return None
    watches = [curve_beside(path)] + ([tensorboard_beside(path)] if options.tensorboard else [])

    def watch(history: Sequence[Epoch]) -> None:
        for each in watches:
            each(history)

    return watch
