"""What training goes down: the cross entropy, and what is added to it."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from training.binarization.orthogonality import soft_orthogonality


@dataclass(frozen=True)
class Objective:
    """The mean cross entropy over the images plus ``beta`` times ``soft_orthogonality`` of the network's filters."""

    label_smoothing: float = 0.0
    beta: float = 0.0

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        loss = F.cross_entropy(model(images).float(), labels, label_smoothing=self.label_smoothing)
        return loss + self.beta * soft_orthogonality(model).float() if self.beta else loss
