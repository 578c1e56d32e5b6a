"""A network that is nothing but torch's own ``nn.Sequential``: its factory says what an author's class would say."""

from __future__ import annotations

import ast
import inspect
import types
from typing import Any

from torch import nn

from ...entry import Entry
from ..text import Sources

_CLASS = "\n\nclass {}(nn.Sequential):\n    def __init__(self):\n        super().__init__()\n"


def with_class(model: nn.Module, entry: Entry, sources: Sources) -> nn.Module:
    """The network as an instance of a class that the factory's file seems to end with, so that all rules for classes
    hold for it; the network itself where an author wrote its class, or no function's text says what is in it."""
    factory = inspect.unwrap(entry.factory) if callable(entry.factory) else None
    place = sources.of_function(factory) if isinstance(factory, types.FunctionType) else None
    if type(model) is not nn.Sequential or place is None or not isinstance(factory, types.FunctionType):
        return model
    name = entry.name.title().replace("_", "") + "Layers"
    file = sources.append(place[0].name, _CLASS.format(name))
    body: dict[str, Any] = {}
    code = compile(ast.Module([file.tree.body[-1]], []), file.name, "exec", dont_inherit=True)
    exec(code, {**factory.__globals__, "nn": nn}, body)
    cls: Any = body[name]
    made = cls.__init__
    cls.__init__ = types.FunctionType(made.__code__, factory.__globals__, "__init__", None, made.__closure__)
    found: nn.Module = cls.__new__(cls)
    found.__dict__.update(vars(model))
    return found
