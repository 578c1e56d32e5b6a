"""Pruning VGG."""

from __future__ import annotations

from .base import BasicPruning, pruner_for


@pruner_for("models.cifar.vgg")
@pruner_for("models.binary.vgg")
class VGGPruning(BasicPruning):
    """A chain: every convolution has a width of its own. Only the last one's channels enter a linear layer."""
