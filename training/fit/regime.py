"""What a regime is: an optimizer, and its settings and learning rate in every epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ...pruners.errors import OptionError
from ..binarization.kinds import quantized_layers
from .objective import Loss, Objective

Optimizer = Literal["sgd", "adam"]
Shape = Literal["constant", "cosine", "exponential", "one_cycle"]

_USUAL: dict[Optimizer, dict[str, float]] = {
    "sgd": {"lr": 0.02, "momentum": 0.9},
    "adam": {"lr": 1e-3},
}
"""Where a run asks for the other optimizer than its regime's, whose rate would be far off."""


@dataclass(frozen=True)
class Regime:
    """A way to train.

    ``changes`` maps an epoch (from 0) to the optimizer's settings from then on; what is not mentioned stays
    ("sticky"). On top of them ``shape`` scales the learning rate with t, the share of the steps that are done:

        constant:     1
        cosine:       (1 + cos(pi t)) / 2
        exponential:  ``final`` ** t
        one_cycle:    up from 0 to 1 in a straight line until t = ``warm_up``, then a cosine down to 0
                      (Smith & Topin 2017)

    The first ``warm_up_epochs`` N multiply it by 1/N, 2/N, ..., 1, an epoch each; there t counts from epoch N - 1.
    ``batch_size`` images make a step. ``beta`` weighs the soft orthogonality of the filters. With ``glorot`` every
    latent weight takes steps 1/sqrt(1.5 / (fan in + fan out)) times as long with Adam, the square of that with SGD, as
    its range is not Glorot's but [-1, 1] (Courbariaux et al. 2015, BinaryConnect, section 2.5). ``source`` says where
    the numbers come from.
    """

    name: str
    optimizer: Optimizer
    changes: Mapping[int, Mapping[str, float]]
    shape: Shape = "constant"
    warm_up: float = 0.15
    warm_up_epochs: int = 0
    final: float = 1.0
    batch_size: int = 64
    epochs: int = 30
    label_smoothing: float = 0.0
    beta: float = 0.0
    options: Mapping[str, Any] = field(default_factory=dict)
    source: str = field(default="", repr=False)
    loss: Loss = "cross_entropy"
    glorot: bool = False

    @property
    def objective(self) -> Objective:
        return Objective(self.label_smoothing, self.beta, self.loss)

    def settings(self, epoch: int) -> dict[str, float]:
        """What holds in ``epoch``: all changes up to it, later ones winning."""
        result: dict[str, float] = {}
        for start in sorted(self.changes):
            if start <= epoch:
                result.update(self.changes[start])
        return result

    def factor(self, done: float) -> float:
        """What the shape multiplies the learning rate by when the share ``done`` (0..1) of all steps is done."""
        if self.shape == "constant":
            return 1.0
        if self.shape == "cosine":
            return (1 + math.cos(math.pi * done)) / 2
        if self.shape == "exponential":
            return self.final**done
        if done < self.warm_up:
            return done / self.warm_up
        return (1 + math.cos(math.pi * (done - self.warm_up) / (1 - self.warm_up))) / 2

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """An optimizer for the model's parameters with the settings of epoch 0."""
        kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[self.optimizer]
        return kind(self._groups(model), **self.settings(0), **self.options)

    def _groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Parameters in their own order, those next to each other with steps of one length together."""
        power = 1 if self.optimizer == "adam" else 2
        longer = {id(m.weight): _glorot(m.weight) ** power for m in quantized_layers(model)} if self.glorot else {}
        groups: list[dict[str, Any]] = []
        for parameter in model.parameters():
            scale = longer.get(id(parameter), 1.0)
            if not groups or groups[-1]["scale"] != scale:
                groups.append({"params": [], "scale": scale})
            groups[-1]["params"].append(parameter)
        return groups

    def rate(self, at: float, epochs: int) -> float:
        """The learning rate when ``at`` of ``epochs`` epochs are done (3.5: in the middle of the fourth)."""
        epoch, lr = int(at), self.settings(int(at))["lr"]
        if not self.warm_up_epochs:
            return lr * self.factor(at / epochs)
        late = self.warm_up_epochs - 1
        ramp = min(1.0, (epoch + 1) / self.warm_up_epochs)
        return lr * ramp * self.factor(max(0.0, at - late) / max(1, epochs - late))

    def apply(self, optimizer: torch.optim.Optimizer, at: float, epochs: int) -> None:
        """Sets the optimizer up for the step when ``at`` of ``epochs`` epochs are done."""
        settings, lr = self.settings(int(at)), self.rate(at, epochs)
        for group in optimizer.param_groups:
            group.update({**settings, "lr": lr * group.get("scale", 1.0)})

    def lasting(self, epochs: int) -> Regime:
        """The regime for another number of epochs: its changes come proportionally earlier or later, but none before
        an epoch is over; so does the end of its warm-up."""
        moved: dict[int, dict[str, float]] = {}
        for start in sorted(self.changes):
            at = max(1, round(start * epochs / self.epochs)) if start else 0
            moved.setdefault(at, {}).update(self.changes[start])
        warm_up = round(self.warm_up_epochs * epochs / self.epochs)
        return replace(self, epochs=epochs, changes=moved, warm_up_epochs=warm_up)

    def adjusted(
        self,
        *,
        lr: float | None = None,
        optimizer: Optimizer | None = None,
        batch_size: int | None = None,
        warm_up: int | None = None,
        label_smoothing: float | None = None,
        beta: float | None = None,
        loss: Loss | None = None,
    ) -> Regime:
        """The regime with some of it chosen anew. ``lr`` is the rate it begins with: later rates stay in proportion.
        ``warm_up`` counts epochs. The other optimizer begins with a rate that is usual for it."""
        regime = self
        if optimizer is not None and optimizer != self.optimizer:
            regime = regime._with_optimizer(optimizer)
        if lr is not None:
            regime = regime._scaled(lr)
        asked: dict[str, Any] = {
            "batch_size": batch_size, "label_smoothing": label_smoothing, "beta": beta, "loss": loss,
        }  # fmt: skip
        regime = replace(regime, **{name: value for name, value in asked.items() if value is not None})
        _ = regime.objective  # refuses what doesn't go together
        return regime if warm_up is None else regime._warmed_up(warm_up)

    def _with_optimizer(self, optimizer: Optimizer) -> Regime:
        usual = _USUAL[optimizer]
        kept = ("lr", "weight_decay")
        changes = {e: {k: v for k, v in c.items() if k in kept} for e, c in self.changes.items()}
        changes[0] = {**usual, **changes[0]}
        return replace(self, optimizer=optimizer, changes=changes, options={})._scaled(usual["lr"])

    def _scaled(self, lr: float) -> Regime:
        ratio = lr / self.settings(0)["lr"]
        changes = {e: {k: v * ratio if k == "lr" else v for k, v in c.items()} for e, c in self.changes.items()}
        return replace(self, changes=changes)

    def _warmed_up(self, epochs: int) -> Regime:
        if epochs >= self.epochs:
            raise OptionError(f"--warm-up {epochs}: must be less than the {self.epochs} epochs of the training")
        if self.shape == "one_cycle":
            return replace(self, warm_up=epochs / self.epochs) if epochs else replace(self, shape="cosine")
        return replace(self, warm_up_epochs=epochs)


def _glorot(weight: Tensor) -> float:
    """One over Glorot's range: sqrt((fan in + fan out) / 1.5)."""
    kernel = math.prod(weight.shape[2:])
    return math.sqrt((weight.shape[0] + weight.shape[1]) * kernel / 1.5)
