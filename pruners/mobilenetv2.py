"""Pruning MobileNetV2."""

from __future__ import annotations

from .base import BasicPruning, pruner_for


@pruner_for("models.cifar.mobilenetv2")
class MobileNetV2Pruning(BasicPruning):
    """Expansion and depth-wise convolution of a block share one width, whose groups are scored over both. The
    projections that shortcuts add up share another; that of a block without a shortcut begins a new one."""
