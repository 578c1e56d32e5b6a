"""The trained starting point of a bundled network: taken from ``pretrained/``, or trained and kept there."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...pruners.errors import NeedsDataError, TrainingError
from ...pruners.outputs import held
from ...pruners.run import NormBase
from ...training.binarization.kinds import Kind
from ...training.data import Data, on_device, require_trainable, with_workers
from ...training.fit import (
    Execution,
    FitResult,
    Purpose,
    Regime,
    find_regime,
    fit,
    is_main,
    load_checkpoint,
    load_weights,
    regime_for,
    resolve_device,
    save_weights,
)
from ..cli import BundleOptions, CompareOptions, StepOptions, TrainOptions, unfinished
from ..show import Voice
from .build import Network
from .kinds import require_kind

_NORMS = (NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


def with_trained_weights(
    network: Network, voice: Voice, seed: int, device: str, keep: bool = True, how: Execution | None = None
) -> Network:
    """The network with weights to start from. Those given with --weights stay; a bundled network with data gets its
    cached ones, trained now if there are none (``keep``: and kept); others stay as their factory made them."""
    if network.weights is not None or network.data is None:
        return network
    if not network.arch:
        voice.remark(f"no --weights: {network.name} is taken as its factory returns it")
        return network
    path = network.pretrained
    if path.exists():
        checkpoint = load_checkpoint(path)
        require_kind(checkpoint, network.chosen, path)
        load_weights(network.model, checkpoint.model, path)
        voice.remark(f"starting from {path}")
    else:
        regime = chosen_regime(None, network.arch, network.model, network.data.name, "train", network.kind)
        voice.remark(f"there is no {path}: training {network.name} on {network.data.name} first")
        # an interrupted training goes on by itself: nothing else could be wanted of it
        train_network(
            network, voice, regime, seed, device, path if keep else None, resume=True, execution=how
        )
    facts = {**network.facts, "weights": path.as_posix()}
    return replace(network, weights=path, facts=facts)


def train_network(
    network: Network,
    voice: Voice,
    regime: Regime,
    seed: int,
    device: str,
    path: Path | None,
    last: Path | None = None,
    **how: Any,
) -> FitResult:
    """Train in place; the best weights go to ``path``, beside which an interrupted training is kept.

    ``last``: where the checkpoint of the last epoch is kept. ``how``: more for ``fit``.
    TrainingError if the loss became no number; then as well the best weights are kept.
    """
    if network.data is None:
        raise NeedsDataError("training needs images: add --data")
    require_trainable(network.data, f"training {network.name}")
    about = {"network": network.chosen.facts} if network.chosen else {}
    checkpoint = path and unfinished(path)
    with nullcontext() if path is None or not is_main() else held(path):
        result = fit(
            network.model, network.data, regime, regime.epochs, seed=seed, device=resolve_device(device),
            progress=voice.progress, checkpoint_path=checkpoint, description=f"training {network.name}",
            upkeep=network.kind, about=about, **how,
        )  # fmt: skip
        network.model.to(torch.device("cpu"))
        if path is not None and checkpoint is not None and is_main():
            if result.best.number or not result.stopped:
                save_weights(network.model, path, about.get("network"))
                voice.remark(f"trained weights are in {path} (validation accuracy {result.best.val.top1:.2%})")
            if last is not None and checkpoint.exists():
                checkpoint.replace(last)
            checkpoint.unlink(missing_ok=True)
    refuse_divergence(result)
    return result


def refuse_divergence(result: FitResult) -> None:
    """TrainingError if training ended early, once what it achieved is kept."""
    if result.stopped:
        raise TrainingError(f"{result.stopped} (--lr), or warm up longer (--warm-up)")


def execution(options: StepOptions) -> Execution:
    """How the options let a training step be computed: precision, and batches that are summed."""
    return Execution(options.amp, options.half, options.accumulate)


def served(data: Data, options: TrainOptions | BundleOptions | CompareOptions) -> Data:
    """The data with the processes that read it, or in the memory of the device."""
    data = with_workers(data, options.workers)
    return on_device(data, resolve_device(options.device)) if options.data_on_device else data


def adjusted(regime: Regime, options: StepOptions) -> Regime:
    """The regime with what the options change in it."""
    return regime.adjusted(
        lr=options.lr, optimizer=options.optimizer, batch_size=options.batch_size, warm_up=options.warm_up,
        label_smoothing=options.label_smoothing, beta=options.beta, loss=options.loss,
    )  # fmt: skip


def chosen_regime(
    name: str | None, arch: str, model: nn.Module, data_name: str, purpose: Purpose, kind: Kind | None
) -> Regime:
    """The regime asked for, else the bundled network's; for others the one with or without normalisation."""
    if name:
        return find_regime(name, purpose)
    if not arch and not any(isinstance(m, _NORMS) for m in model.modules()):
        return find_regime("plain", purpose)
    return regime_for(arch, data_name, purpose, kind.name if kind is not None else "")
