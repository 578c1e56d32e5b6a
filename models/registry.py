"""The bundled networks by name. Listing them imports neither torch nor a network."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..pruners.errors import FactoryError, InputError, UnknownNameError, UnsuitedError
from ..pruners.registry import closest

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Arch:
    """Where a network is (``home``: its file, written with dots) and what it is.

    ``input_shape`` (channels, height, width) is what the factory builds for when it is given no arguments.
    ``binary``: the bundled network that is the same in the form for binary layers; its own name if it is that form,
    empty where there is none.
    """

    name: str
    home: str
    factory: str
    description: str
    input_shape: tuple[int, int, int] = (3, 32, 32)
    binary: str = ""

    @property
    def module(self) -> str:
        """The name it is imported by."""
        return f"{__package__.partition('.')[0]}.{self.home}"


_BUNDLED = (
    Arch("alexnet", "models.cifar.alexnet", "alexnet", "AlexNet, sequential, with hidden layers of 1024",
         binary="alexnet_binary"),
    Arch("alexnet_binary", "models.binary.alexnet", "alexnet_binary", "AlexNet with batch norm, for binary layers",
         binary="alexnet_binary"),
    Arch("lenet5", "models.cifar.lenet5", "lenet5", "LeNet-5 with 20 and 50 channels", (1, 28, 28),
         binary="lenet5_binary"),
    Arch("lenet5_binary", "models.binary.lenet5", "lenet5_binary", "LeNet-5 of XNOR-Net, for binary layers",
         (1, 28, 28), binary="lenet5_binary"),
    Arch("mobilenetv2", "models.cifar.mobilenetv2", "mobilenetv2", "MobileNetV2 of width 1.0, inverted residuals"),
    Arch("nin", "models.cifar.nin", "nin", "Network in Network, nine convolutions", binary="nin_binary"),
    Arch("nin_binary", "models.binary.nin", "nin_binary", "Network in Network of XNOR-Net, for binary layers",
         binary="nin_binary"),
    Arch("resnet14_binary", "models.binary.resnet", "resnet14_binary",
         "ResNet of 14 layers, widths 80 to 320, for binary layers", binary="resnet14_binary"),
    Arch("resnet18_binary", "models.binary.resnet", "resnet18_binary", "ResNet-18 of IR-Net, for binary layers",
         binary="resnet18_binary"),
    Arch("resnet20", "models.cifar.resnet", "resnet20", "ResNet-20, basic blocks", binary="resnet20_binary"),
    Arch("resnet20_binary", "models.binary.resnet", "resnet20_binary", "ResNet-20 of IR-Net, for binary layers",
         binary="resnet20_binary"),
    Arch("resnet32", "models.cifar.resnet", "resnet32", "ResNet-32, basic blocks"),
    Arch("resnet44", "models.cifar.resnet", "resnet44", "ResNet-44, basic blocks or bottlenecks"),
    Arch("resnet56", "models.cifar.resnet", "resnet56", "ResNet-56, basic blocks or bottlenecks"),
    Arch("resnet110", "models.cifar.resnet", "resnet110", "ResNet-110, basic blocks or bottlenecks"),
    Arch("squeezenet", "models.cifar.squeezenet", "squeezenet", "SqueezeNet 1.0 with batch norm, fire modules"),
    Arch("vgg11", "models.cifar.vgg", "vgg11", "VGG-11 with batch norm", binary="vgg11_binary"),
    Arch("vgg11_binary", "models.binary.vgg", "vgg11_binary", "VGG-11 with hardtanh, for binary layers",
         binary="vgg11_binary"),
    Arch("vgg16", "models.cifar.vgg", "vgg16", "VGG-16 with batch norm"),
    Arch("vgg_small", "models.cifar.vgg_small", "vgg_small", "VGG-Small, for real and binary layers",
         binary="vgg_small"),
    Arch("vgg_small_irnet", "models.cifar.vgg_small", "vgg_small_irnet", "VGG-Small as IR-Net's own code has it",
         binary="vgg_small_irnet"),
)  # fmt: skip

ARCHS: Mapping[str, Arch] = MappingProxyType({arch.name: arch for arch in _BUNDLED})
ALIASES: Mapping[str, str] = MappingProxyType(
    {"resnet": "resnet20", "vgg": "vgg11", "resnet18": "resnet18_binary", "resnet_binary": "resnet14_binary"}
)


def find(name: str, listing: str = "secateur archs") -> Arch:
    """The entry called ``name`` (or an alias of it); raises UsageError with the closest name, or the command that
    lists them."""
    arch = ARCHS.get(ALIASES.get(name, name)) or ARCHS.get(_spelled(name))
    if arch is None:
        close = closest(name, [*ARCHS, *ALIASES])
        hint = f"did you mean {close!r}?" if close else f"{listing} lists them"
        raise UnknownNameError(f"there is no bundled network {name!r}: {hint}")
    return arch


def _spelled(name: str) -> str:
    """The name of a network that is spelled otherwise, as in papers: ``ResNet-18``, ``LeNet_5``; else nothing."""
    plain = {known.replace("_", ""): ALIASES.get(known, known) for known in (*ARCHS, *ALIASES)}
    return plain.get(name.lower().replace("-", "").replace("_", ""), "")


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
            raise InputError(f"{name} takes square images, not {height}x{width}: crop or resize them")
        arguments["image_size"] = height
    return arguments


def layer_arguments(name: str, layers: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the ``layers`` (argument -> what makes a layer) that the network's factory takes. UsageError for a
    network in which layers can't be chosen."""
    taken = _arguments_of(name)
    if "conv" not in taken:
        with_layers = ", ".join(arch.name for arch in _BUNDLED if arch.binary == arch.name)
        raise UnsuitedError(f"{name} has no form for binary layers: take one of {with_layers}")
    if "norm" in layers and "norm" not in taken:
        choosing = [a.name for a in _BUNDLED if a.binary == a.name and "norm" in _arguments_of(a.name)]
        raise UnsuitedError(f"{name} has batch norms only; those of {', '.join(choosing)} can be chosen")
    return {argument: layer for argument, layer in layers.items() if argument in taken}


def _arguments_of(name: str) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(load_factory(name)).parameters


def create(name: str, **arguments: Any) -> nn.Module:
    """Builds the network called ``name``; an argument it doesn't take, or can't use, is a UsageError."""
    factory = load_factory(name)
    try:
        inspect.signature(factory).bind(**arguments)
    except TypeError as error:
        taken = ", ".join(inspect.signature(factory).parameters)
        raise FactoryError(f"{name}: {error}; its arguments are {taken}") from None
    try:
        return factory(**arguments)
    except ValueError as error:
        raise FactoryError(f"{name}: {error}") from None
