"""What training goes down: the loss of the scores, and what is added to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...pruners.errors import ConflictError, OptionError
from ...pruners.run import same_mode
from ..binarization import soft_orthogonality

Loss = Literal["cross_entropy", "square_hinge"]
Criterion = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""(model, images, labels) -> the loss to go down."""


def square_hinge(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean over images and classes of max(0, 1 - t s)^2, where t is 1 for the true class and -1 for all others.

    Reference: Tang 2013, "Deep Learning using Linear Support Vector Machines"; BinaryConnect trains with it.
    """
    targets = 2.0 * F.one_hot(labels, scores.shape[1]) - 1
    return (1 - targets * scores).clamp(min=0).square().mean()


@dataclass(frozen=True)
class Objective:
    """The mean cross entropy over the images, or ``square_hinge``, plus ``beta`` times ``soft_orthogonality`` of the
    network's filters."""

    label_smoothing: float = 0.0
    beta: float = 0.0
    loss: Loss = "cross_entropy"

    def __post_init__(self) -> None:
        if self.label_smoothing and self.loss != "cross_entropy":
            raise ConflictError("--label-smoothing is for the cross entropy: add --loss cross_entropy")

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return self.with_filters(self.of_scores(model(images).float(), labels), model)

    def of_scores(self, scores: Tensor, labels: Tensor) -> Tensor:
        """The loss of the scores (N, classes) alone."""
        if self.loss == "square_hinge":
            return square_hinge(scores, labels)
        return F.cross_entropy(scores, labels, label_smoothing=self.label_smoothing)

    def with_filters(self, loss: Tensor, model: nn.Module) -> Tensor:
        """The loss with what the filters add to it."""
        return loss + self.beta * soft_orthogonality(model).float() if self.beta else loss


@dataclass(frozen=True)
class Teacher:
    """A network that a student learns from, beside the labels: how much, and how soft what it says is made."""

    network: nn.Module = field(repr=False)
    share: float = 0.5
    temperature: float = 4.0

    def __post_init__(self) -> None:
        if not (0 < self.share <= 1 and 0 < self.temperature < float("inf")):
            raise OptionError(
                f"--distill {self.share:g} --temperature {self.temperature:g}: the share must lie above 0 and up to 1, "
                "the temperature above 0"
            )


@dataclass(frozen=True)
class Distillation:
    """(1 - a) times the objective's loss of the labels plus a T^2 KL(teacher / T || student / T), with the teacher's
    share a and temperature T: the Kullback-Leibler divergence of the classes' probabilities at that temperature, in
    nats. The teacher runs in eval mode, whatever mode it was in.

    Reference: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", section 2.
    """

    objective: Objective
    teacher: Teacher

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        scores = model(images).float()
        share, temperature = self.teacher.share, self.teacher.temperature
        said = F.log_softmax(self._said(images) / temperature, 1)
        apart = F.kl_div(F.log_softmax(scores / temperature, 1), said, reduction="batchmean", log_target=True)
        loss = (1 - share) * self.objective.of_scores(scores, labels) + share * temperature**2 * apart
        return self.objective.with_filters(loss, model)

    def _said(self, images: Tensor) -> Tensor:
        network = self.teacher.network
        parameter = next(network.parameters(), images)
        with same_mode(network), torch.no_grad():
            return network.eval()(images.to(parameter.device, parameter.dtype)).float().to(images.device)


def criterion(objective: Objective, teacher: Teacher | None) -> Criterion:
    return objective if teacher is None else Distillation(objective, teacher)
