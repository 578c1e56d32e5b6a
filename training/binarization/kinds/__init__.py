"""The kinds of networks by name: importing this package registers those in its folder."""

from __future__ import annotations

import importlib
import pkgutil

from .registry import (
    KINDS,
    Kind,
    find_kind,
    quantized_layers,
    recognise,
    register,
)

for _entry in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_entry.name}")

__all__ = ["KINDS", "Kind", "find_kind", "quantized_layers", "recognise", "register"]
