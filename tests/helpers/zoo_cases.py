"""The networks of ``zoo``, by name."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from secateur.pruners.base import BasicPruning
from secateur.pruners.source import Entry
from secateur.pruners.verify import oracle

ROOMS = ("shapes", "parts", "channels", "layers", "habits", "wiring", "flow", "tensors", "files")


with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    ZOO = {room: importlib.import_module(f"zoo.{room}") for room in ROOMS}
CASES = {
    f"{room}: {factory.__name__}": (room, factory, *case)
    for room, module in ZOO.items()
    for factory, case in module.CASES.items()
}


def pruner_of(factory: Factory, inputs: Any) -> BasicPruning:
    torch.manual_seed(0)
    model = factory()
    oracle.randomise(model, 0)
    return BasicPruning(model, inputs, entry=Entry(factory, {}, factory.__name__, "the zoo"))


Factory = Callable[[], nn.Module]
