"""Which pruner a network gets."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from pathlib import PurePath
from typing import Any

from torch import nn

from ...models import registry
from ...pruners.base import PRUNERS, BasicPruning
from ...pruners.configured import ConfiguredPruning
from ...pruners.entry import Entry
from ...pruners.errors import OptionError
from ...pruners.hub import is_configured
from ..cli import SETUP_PRUNER
from .build import Network


def new_pruner(network: Network, **arguments: Any) -> BasicPruning:
    """The pruner that the application sets up for a command: ``app.setup_pruner`` says which."""
    setup = SETUP_PRUNER.get() or setup_pruner
    pruner: BasicPruning = setup(
        network.arch, network.model, network.example_input, entry=network.entry, **network.choices, **arguments
    )
    file, factory = pruner.fileName, pruner.netName
    generated = not isinstance(pruner, ConfiguredPruning)
    if generated and (PurePath(file).name != file or PurePath(file).suffix != ".py"):
        raise OptionError(f"{type(pruner).__name__}.fileName must be the name of a .py file, not {file!r}")
    if not factory.isidentifier():
        raise OptionError(f"{type(pruner).__name__}.netName must be the name of a function, not {factory!r}")
    return pruner


def setup_pruner(arch: str, model: nn.Module, example_input: Any, **arguments: Any) -> BasicPruning:
    """The pruner registered for the module of the bundled network ``arch``, or of the user's factory (``entry``);
    ``BasicPruning`` for all others.

    ``arch`` is looked up whole, never matched in part; empty for a network of the user's own.
    """
    entry: Entry | None = arguments.get("entry")
    modules = [] if arch or entry is None else [inspect.unwrap(entry.factory).__module__, type(model).__module__]
    if is_configured(model):
        return ConfiguredPruning(model, example_input, **arguments)
    own = next((PRUNERS[module] for module in modules if module in PRUNERS), None)
    return (own or pruner_class(arch))(model, example_input, **arguments)


def pruner_class(arch: str) -> type[BasicPruning]:
    """The pruner that ``pruners/NAME.py`` registers for a bundled network, or the one for all networks."""
    if not arch:
        return BasicPruning
    home = registry.find(arch).home
    module = f"secateur.pruners.{home.rpartition('.')[2]}"  # models.cifar.resnet is registered by pruners/resnet.py
    if importlib.util.find_spec(module) is not None:
        importlib.import_module(module)
    return PRUNERS.get(home, BasicPruning)
