"""Pruning VGG-Small."""

from __future__ import annotations

from .base import BasicPruning, pruner_for


@pruner_for("models.cifar.vgg_small")
class VGGSmallPruning(BasicPruning):
    """A chain of six convolutions, each with a width of its own. One channel of the last one owns a whole map of the
    linear layer's inputs."""
