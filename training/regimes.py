"""Regimes: which optimizer, with what learning rate in which epoch."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import nn

from pruners.errors import UsageError

Purpose = Literal["train", "retrain"]


@dataclass(frozen=True)
class Regime:
    """A way to train.

    ``changes`` maps an epoch (from 0) to the optimizer's settings from then on; what is not mentioned stays
    ("sticky"). On top of them ``shape`` scales the learning rate with t, the share of the steps that are done:

        constant:   1
        cosine:     (1 + cos(pi t)) / 2
        one_cycle:  up from 0 to 1 in a straight line until t = ``warm_up``, then a cosine down to 0
                    (Smith & Topin 2017)
    """

    name: str
    optimizer: Literal["sgd", "adam"]
    changes: Mapping[int, Mapping[str, float]]
    shape: Literal["constant", "cosine", "one_cycle"] = "constant"
    warm_up: float = 0.15
    batch_size: int = 64
    epochs: int = 30
    label_smoothing: float = 0.0
    options: Mapping[str, Any] = field(default_factory=dict)

    def settings(self, epoch: int) -> dict[str, float]:
        """What holds in ``epoch``: all changes up to it, later ones winning."""
        result: dict[str, float] = {}
        for start in sorted(self.changes):
            if start <= epoch:
                result.update(self.changes[start])
        return result

    def factor(self, done: float) -> float:
        """What the learning rate is multiplied by when the share ``done`` (0..1) of all steps is done."""
        if self.shape == "constant":
            return 1.0
        if self.shape == "cosine":
            return (1 + math.cos(math.pi * done)) / 2
        if done < self.warm_up:
            return done / self.warm_up
        return (1 + math.cos(math.pi * (done - self.warm_up) / (1 - self.warm_up))) / 2

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """An optimizer for the model's parameters with the settings of epoch 0."""
        kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[self.optimizer]
        return kind(model.parameters(), **self.settings(0), **self.options)

    def apply(self, optimizer: torch.optim.Optimizer, epoch: int, done: float) -> None:
        """Sets the optimizer up for a step in ``epoch``."""
        settings = self.settings(epoch)
        settings["lr"] *= self.factor(done)
        for group in optimizer.param_groups:
            group.update(settings)


def _sgd(name: str, lr: float, *, epochs: int, shape: Literal["cosine", "one_cycle"]) -> Regime:
    settings = {"lr": lr, "momentum": 0.9, "weight_decay": 5e-4}
    return Regime(name, "sgd", {0: settings}, shape=shape, epochs=epochs, options={"nesterov": True})


def _adam(name: str, lrs: Mapping[int, float], epochs: int, batch_size: int = 256) -> Regime:
    changes = {epoch: {"lr": lr} for epoch, lr in lrs.items()}
    return Regime(name, "adam", changes, epochs=epochs, batch_size=batch_size)


_RETRAIN_STEPS = {0: 5e-3, 1: 1e-3, 2: 5e-4, 3: 1e-4}

REGIMES: dict[str, dict[Purpose, Regime]] = {
    # real-valued networks with batch norm, and without (where a high rate makes them diverge)
    "normalised": {
        "train": _sgd("normalised", 0.1, epochs=40, shape="one_cycle"),
        "retrain": _sgd("normalised", 0.02, epochs=10, shape="cosine"),
    },
    "plain": {
        "train": _sgd("plain", 0.02, epochs=40, shape="one_cycle"),
        "retrain": _sgd("plain", 0.005, epochs=10, shape="cosine"),
    },
    # the regimes of the binary networks this toolkit grew out of: Adam, epoch -> learning rate
    "resnet_cifar": {
        "train": _adam("resnet_cifar", {0: 5e-3, 101: 1e-3, 142: 5e-4, 184: 1e-4, 220: 1e-5}, epochs=250),
        "retrain": _adam("resnet_cifar", {**_RETRAIN_STEPS, 4: 1e-5}, epochs=10),
    },
    "resnet_imagenet": {
        "train": _adam(
            "resnet_imagenet", {0: 1e-2, 20: 5e-3, 30: 1e-3, 40: 5e-4, 60: 5e-5, 70: 5e-6, 75: 5e-7}, epochs=80
        ),
        "retrain": _adam("resnet_imagenet", _RETRAIN_STEPS, epochs=10),
    },
    "vgg11": {
        "train": _adam("vgg11", {0: 5e-3, 40: 1e-3, 80: 5e-4, 100: 1e-4, 120: 5e-5, 140: 1e-5}, epochs=160),
        "retrain": _adam("vgg11", {**_RETRAIN_STEPS, 4: 5e-5}, epochs=10),
    },
}

_BY_ARCH = {"alexnet": "plain", "lenet5": "plain"}
EPOCHS_BY_DATA = {"digits": 40, "mnist": 8, "minicifar": 60}
"""Epochs to train for where a data set wants other than the regime's own number: few images, more epochs."""


def find_regime(name: str, purpose: Purpose) -> Regime:
    """The regime called ``name``; raises UsageError with the closest name."""
    if name not in REGIMES:
        close = difflib.get_close_matches(name, REGIMES, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(REGIMES))}"
        raise UsageError(f"unknown regime {name!r}: {hint}")
    return REGIMES[name][purpose]


def regime_for(arch: str, data_name: str, purpose: Purpose) -> Regime:
    """The regime a network is trained with when none is asked for."""
    regime = find_regime(_BY_ARCH.get(arch, "normalised"), purpose)
    if purpose == "train" and data_name in EPOCHS_BY_DATA:
        return replace(regime, epochs=EPOCHS_BY_DATA[data_name])
    return regime
