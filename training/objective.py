"""What training goes down: the loss of the scores, and what is added to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from pruners.errors import UsageError
from training.binarization.orthogonality import soft_orthogonality

Loss = Literal["cross_entropy", "square_hinge"]


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
            raise UsageError("--label-smoothing is for the cross entropy: add --loss cross_entropy")

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        scores = model(images).float()
        if self.loss == "square_hinge":
            loss = square_hinge(scores, labels)
        else:
            loss = F.cross_entropy(scores, labels, label_smoothing=self.label_smoothing)
        return loss + self.beta * soft_orthogonality(model).float() if self.beta else loss
