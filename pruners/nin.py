"""Pruning Network in Network."""

from __future__ import annotations

from .base import BasicPruning, pruner_for


@pruner_for("models.cifar.nin")
@pruner_for("models.binary.nin")
class NINPruning(BasicPruning):
    """A chain without linear layers: the last convolution's channels are the class scores, and stay."""
