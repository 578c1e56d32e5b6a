"""How author's code would name an object: by the imports its file already has, else by the usual ones."""

from __future__ import annotations

import enum
import sys
import types
from collections.abc import Mapping, Set
from typing import Any

import torch
import torch.nn.functional
from torch import nn

from ...errors import ValueTextError
from ..live import global_name, is_torch

_USUAL: tuple[tuple[str, types.ModuleType], ...] = (("nn", nn), ("F", torch.nn.functional), ("torch", torch))
UNWELCOME = ("torchvision", __name__.partition(".")[0])


def unwelcome(module: str) -> bool:
    """Whether generated code must not import this module."""
    return module.partition(".")[0] in UNWELCOME


class Namer:
    """Names objects as seen from one file. ``extra`` collects names that the file itself doesn't bind.

    ``spelled``: the names, dots included, that the file's code reads. ``imported``: libraries' classes that stay there.
    """

    def __init__(
        self,
        namespace: Mapping[str, Any],
        classes: Mapping[type, str],
        spelled: Set[str] = frozenset(),
        imported: Set[type] = frozenset(),
    ) -> None:
        self.namespace = namespace
        self.spelled = spelled
        self.classes = classes  # names of author's classes in the generated file
        self.imported = imported  # classes of libraries, which keep the names that the author's imports give them
        self.extra: dict[str, Any] = {}

    def text(self, value: Any) -> str:
        """An expression for the object. Raises SourceError if it has no global name."""
        if isinstance(value, enum.Enum):
            return f"{self.text(type(value))}.{value.name}"
        if isinstance(value, torch.dtype | torch.memory_format):
            return f"{self._module(torch, 'torch')}.{str(value).removeprefix('torch.')}"
        if isinstance(value, types.ModuleType):
            return self._module(value, value.__name__.rpartition(".")[2])
        is_module = isinstance(value, type) and issubclass(value, nn.Module)
        if is_module and not is_torch(value) and value not in self.imported:
            return self._own_name(value)
        home, bound = global_name(value), self._bound(value)
        if home is None and bound is not None:
            return bound  # ``Config = namedtuple("Settings", ...)``
        if home is None:
            raise ValueTextError(f"{value!r} has no global name that generated code could use")
        if home[0] == "builtins":
            return home[1]
        dotted = self._in_module(value, home[1])
        if bound not in self.spelled and dotted in self.spelled:
            return str(dotted)
        return bound or dotted or self._imported(value, home[1])

    def _own_name(self, cls: type) -> str:
        """The name of an author's class, under which the generated file defines it, whatever its user calls it."""
        name = self.classes.get(cls, cls.__name__)
        if self.namespace.get(name) is not cls:
            self.extra[name] = cls
        return name

    def _bound(self, value: Any) -> str | None:
        names = [n for n, v in {**self.namespace, **self.extra}.items() if v is value and n.isidentifier()]
        own = getattr(value, "__name__", None)
        return own if own in names else min(names, default=None)

    def _in_module(self, value: Any, name: str) -> str | None:
        for alias, module in {**self.namespace, **self.extra}.items():
            if (
                isinstance(module, types.ModuleType)
                and not unwelcome(module.__name__)
                and getattr(module, name, None) is value
            ):
                return f"{alias}.{name}"
        return None

    def _imported(self, value: Any, name: str) -> str:
        for alias, module in _USUAL:
            if getattr(module, name, None) is value:
                return f"{self._module(module, alias)}.{name}"
        top = name.partition(".")[0]
        owner = global_name(value)
        self.extra[top] = getattr(sys.modules[owner[0]], top) if owner else value
        return name

    def _module(self, module: types.ModuleType, alias: str) -> str:
        bound = self._bound(module)
        if bound is None:
            self.extra[alias] = module
        return bound or alias
