"""Pruning residual networks."""

from __future__ import annotations

from .base import BasicPruning, pruner_for


@pruner_for("models.cifar.resnet")
@pruner_for("models.binary.resnet")
class ResNetPruning(BasicPruning):
    """All blocks of a stage add to the same channels, so these share one width: with zero-padding shortcuts even across
    stages, as the channels of an earlier stage go on in the later ones. What lies inside a block is free."""
