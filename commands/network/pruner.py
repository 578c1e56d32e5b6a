"""Which pruner a network gets."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from torch import nn

from ...models import registry
from ...pruners.base import PRUNERS, BasicPruning


def setup_pruner(arch: str, model: nn.Module, example_input: Any, **arguments: Any) -> BasicPruning:
    """The pruner registered for the module of the bundled network ``arch``; ``BasicPruning`` for all others.

    ``arch`` is looked up whole, never matched in part; empty for a network of the user's own.
    """
    return pruner_class(arch)(model, example_input, **arguments)


def pruner_class(arch: str) -> type[BasicPruning]:
    """The pruner that ``pruners/NAME.py`` registers for a bundled network, or the one for all networks."""
    if not arch:
        return BasicPruning
    home = registry.find(arch).home
    module = f"secateur.pruners.{home.rpartition('.')[2]}"  # models.cifar.resnet is registered by pruners/resnet.py
    if importlib.util.find_spec(module) is not None:
        importlib.import_module(module)
    return PRUNERS.get(home, BasicPruning)
