"""Pruning LeNet-5."""

from __future__ import annotations

from .base import BasicPruning, pruner_for


@pruner_for("models.cifar.lenet5")
@pruner_for("models.binary.lenet5")
class LeNet5Pruning(BasicPruning):
    """Two convolutions and a hidden linear layer, each with a width of its own. One channel of the second convolution
    owns a whole map of the hidden layer's inputs, so most parameters hang on few channels."""
