"""The pruner classes of the bundled networks, each registered for the files that hold them."""

from __future__ import annotations

from .base import PRUNERS, BasicPruning, pruner_for

__all__ = ["PRUNERS"]


@pruner_for("models.cifar.lenet5")
@pruner_for("models.binary.lenet5")
class LeNet5Pruning(BasicPruning):
    """Two convolutions and a hidden linear layer, each with a width of its own. One channel of the second convolution
    owns a whole map of the hidden layer's inputs, so most parameters hang on few channels."""


@pruner_for("models.cifar.alexnet")
@pruner_for("models.binary.alexnet")
class AlexNetPruning(BasicPruning):
    """Every layer has a width of its own; the channels that enter the first linear layer each own a whole map of its
    inputs. The last linear layer's outputs, the classes, stay."""


@pruner_for("models.cifar.vgg")
@pruner_for("models.binary.vgg")
class VGGPruning(BasicPruning):
    """A chain: every convolution has a width of its own. Only the last one's channels enter a linear layer."""


@pruner_for("models.cifar.vgg_small")
class VGGSmallPruning(BasicPruning):
    """A chain of six convolutions, each with a width of its own. One channel of the last one owns a whole map of the
    linear layer's inputs."""


@pruner_for("models.cifar.nin")
@pruner_for("models.binary.nin")
class NINPruning(BasicPruning):
    """A chain without linear layers: the last convolution's channels are the class scores, and stay."""


@pruner_for("models.cifar.squeezenet")
class SqueezeNetPruning(BasicPruning):
    """Nothing is added up: each of a fire module's three convolutions has a width of its own, and the next module reads
    the two expansions side by side. The last convolution's channels are the class scores, and stay."""


@pruner_for("models.cifar.mobilenetv2")
class MobileNetV2Pruning(BasicPruning):
    """Expansion and depth-wise convolution of a block share one width, whose groups are scored over both. The
    projections that shortcuts add up share another; that of a block without a shortcut begins a new one."""


@pruner_for("models.cifar.resnet")
@pruner_for("models.binary.resnet")
class ResNetPruning(BasicPruning):
    """All blocks of a stage add to the same channels, so these share one width: with zero-padding shortcuts even across
    stages, as the channels of an earlier stage go on in the later ones. What lies inside a block is free."""
