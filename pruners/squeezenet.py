"""Pruning SqueezeNet."""

from __future__ import annotations

from .base import BasicPruning, pruner_for


@pruner_for("models.cifar.squeezenet")
class SqueezeNetPruning(BasicPruning):
    """Nothing is added up: each of a fire module's three convolutions has a width of its own, and the next module reads
    the two expansions side by side. The last convolution's channels are the class scores, and stay."""
