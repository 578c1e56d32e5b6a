"""Pruning AlexNet."""

from __future__ import annotations

from .base import BasicPruning, pruner_for


@pruner_for("models.cifar.alexnet")
@pruner_for("models.binary.alexnet")
class AlexNetPruning(BasicPruning):
    """Every layer has a width of its own; the channels that enter the first linear layer each own a whole map of its
    inputs. The last linear layer's outputs, the classes, stay."""
