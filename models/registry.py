"""The bundled networks by name. Listing them imports neither torch nor a network."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pruners.errors import UsageError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Arch:
    """Where a network is and what it is.

    ``input_shape`` (channels, height, width) is what the factory builds for when it is given no arguments.
    """

    name: str
    module: str
    factory: str
    description: str
    input_shape: tuple[int, int, int] = (3, 32, 32)


_BUNDLED = (
    Arch("alexnet", "models.cifar.alexnet", "alexnet", "AlexNet, sequential, with hidden layers of 1024"),
    Arch("lenet5", "models.cifar.lenet5", "lenet5", "LeNet-5 with 20 and 50 channels", (1, 28, 28)),
    Arch("mobilenetv2", "models.cifar.mobilenetv2", "mobilenetv2", "MobileNetV2 of width 1.0, inverted residuals"),
    Arch("nin", "models.cifar.nin", "nin", "Network in Network, nine convolutions"),
    Arch("resnet20", "models.cifar.resnet", "resnet20", "ResNet-20, basic blocks"),
    Arch("resnet32", "models.cifar.resnet", "resnet32", "ResNet-32, basic blocks"),
    Arch("resnet44", "models.cifar.resnet", "resnet44", "ResNet-44, basic blocks or bottlenecks"),
    Arch("resnet56", "models.cifar.resnet", "resnet56", "ResNet-56, basic blocks or bottlenecks"),
    Arch("resnet110", "models.cifar.resnet", "resnet110", "ResNet-110, basic blocks or bottlenecks"),
    Arch("squeezenet", "models.cifar.squeezenet", "squeezenet", "SqueezeNet 1.0 with batch norm, fire modules"),
    Arch("vgg11", "models.cifar.vgg", "vgg11", "VGG-11 with batch norm"),
    Arch("vgg16", "models.cifar.vgg", "vgg16", "VGG-16 with batch norm"),
    Arch("vgg_small", "models.cifar.vgg_small", "vgg_small", "VGG-Small with real weights"),
)

ARCHS: Mapping[str, Arch] = MappingProxyType({arch.name: arch for arch in _BUNDLED})
ALIASES: Mapping[str, str] = MappingProxyType({"resnet": "resnet20", "vgg": "vgg11"})


def find(name: str) -> Arch:
    """The entry called ``name`` (or an alias of it); raises UsageError with the closest name."""
    arch = ARCHS.get(ALIASES.get(name, name))
    if arch is None:
        close = difflib.get_close_matches(name, [*ARCHS, *ALIASES], n=1)
        hint = f"did you mean {close[0]!r}?" if close else "app.py archs lists them"
        raise UsageError(f"there is no bundled network {name!r}: {hint}")
    return arch


def load_factory(name: str) -> Callable[..., nn.Module]:
    """The function that builds the network; this is what imports torch."""
    arch = find(name)
    factory: Callable[..., nn.Module] = getattr(importlib.import_module(arch.module), arch.factory)
    return factory


def arguments_for(name: str, input_shape: tuple[int, int, int], num_classes: int) -> dict[str, int]:
    """The factory's arguments for square images of ``input_shape`` (channels, height, width).

    ``image_size`` is among them only where the network's layers depend on it.
    """
    channels, height, width = input_shape
    arguments = {"num_classes": num_classes, "in_channels": channels}
    if "image_size" in inspect.signature(load_factory(name)).parameters:
        if height != width:
            raise UsageError(f"{name} takes square images, not {height}x{width}: crop or resize them")
        arguments["image_size"] = height
    return arguments


def create(name: str, **arguments: Any) -> nn.Module:
    """Builds the network called ``name``; an argument it doesn't take, or can't use, is a UsageError."""
    factory = load_factory(name)
    try:
        inspect.signature(factory).bind(**arguments)
    except TypeError as error:
        taken = ", ".join(inspect.signature(factory).parameters)
        raise UsageError(f"{name}: {error}; its arguments are {taken}") from None
    try:
        return factory(**arguments)
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from None
