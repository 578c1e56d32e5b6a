"""Calls of the author's helper functions, such as ``conv3x3(inp, oup)``, where they still make the live layer."""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..live import (
    Arg,
    Birth,
    Call,
    Lit,
    Term,
    Tree,
    attempted,
    call_of,
    for_instance,
    is_torch,
    same,
    undisturbed,
    value_of,
)
from ..text import stored_names
from .arguments import argument_hints
from .classes import AuthorClass
from .scope import as_term

_OTHER = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)


class Helpers:
    """Finds the helper that made a layer and proves, by calling it with the new widths, that it makes the live one."""

    def __init__(self, tree: Tree, author: AuthorClass, paths: Sequence[str]) -> None:
        self.tree = tree
        self.author = author
        self.paths = paths
        self._made: dict[tuple[Any, str], Call | None] = {}

    def call(self, term: Call, active: Sequence[int]) -> Call | None:
        """The helper's call in place of the layer's; None if no helper of the author makes the layer everywhere."""
        if not (isinstance(term.fn, type) and issubclass(term.fn, nn.Module) and is_torch(term.fn)):
            return None
        indices = list(active) if len(term.paths) == len(self.paths) else [0] if len(term.paths) == 1 else []
        indices = [i for i in indices if term.paths[i] is not None]
        found = [self._birth(term.paths[i] or "") for i in indices]
        births = [b for b in found if b is not None]
        if not births or len(births) < len(indices):
            return None
        function = self._function(births[0])
        if function is None or any(b.frames[0] != births[0].frames[0] for b in births):
            return None
        made = self._written(function, term, births)
        return made if made is not None and all(self._proves(made, term, i) for i in indices) else None

    def _birth(self, path: str) -> Birth | None:
        """How the layer was made, if that was in a call of the class being written, but not by itself."""
        making = self.tree.making(path, self.paths)
        return making.birth if making is not None and making.depth else None

    def _function(self, birth: Birth) -> types.FunctionType | None:
        frame = birth.frames[0]
        found = self.author.globals.get(frame.function)
        if frame.owner is not None or not isinstance(found, types.FunctionType):
            return None
        code = found.__code__
        return found if (code.co_filename, code.co_firstlineno) == (frame.file, frame.first_line) else None

    def _written(self, function: types.FunctionType, term: Call, births: Sequence[Birth]) -> Call | None:
        """Parameters that the helper hands on get what the layer has, others what the author gave them."""
        place = self.tree.sources.of_function(function)
        parameters = inspect.signature(function).parameters
        if place is None or any(p.kind in _OTHER for p in parameters.values()):
            return None
        inner = argument_hints(births[0], 0, self.tree.sources)
        handed = {e.id: n for n, e in inner.items() if isinstance(e, ast.Name) and e.id not in stored_names(place[1])}
        given = argument_hints(births[0], 1, self.tree.sources, 1)
        values = {a.name: a.value for a in term.args}
        args = []
        for name, parameter in parameters.items():
            default = None if parameter.default is inspect.Parameter.empty else as_term(parameter.default)
            value: Term | None = values[handed[name]] if handed.get(name) in values else default
            if isinstance(expr := given.get(name), ast.Constant) and name not in handed:
                value = Lit(expr.value)
            if value is None:
                return None
            positional = default is None and parameter.kind is not inspect.Parameter.KEYWORD_ONLY
            args.append(Arg(name, value, default, positional))
        return Call(function, tuple(args), term.paths)

    def _proves(self, made: Call, term: Call, index: int) -> bool:
        own, live = for_instance(made, index), for_instance(term, index)
        assert isinstance(own, Call) and isinstance(live, Call)
        try:
            values = {a.name: value_of(a.value) for a in own.args}
        except LookupError:
            return False
        key = made.fn, repr(values)
        if key not in self._made:
            what = f"{made.fn.__name__} can't make the pruned layer"
            self._made[key] = attempted(what, lambda: _called(made.fn, values))
        twin = self._made[key]
        return twin is not None and twin.fn is live.fn and _alike(twin, live)


def _called(function: types.FunctionType, values: dict[str, Any]) -> Call | None:
    with undisturbed(), torch.device("meta"):
        layer = function(**values)
    return call_of(layer, "") if isinstance(layer, nn.Module) and is_torch(type(layer)) else None


def _alike(twin: Call, live: Call) -> bool:
    """Equal arguments; the type of the weights is no matter of the helper's where it is the model's."""
    ours, theirs = ([a for a in c.args if a.name != "dtype"] for c in (twin, live))
    usual = all(a.default is not None and same(a.value, a.default) for a in live.args if a.name == "dtype")
    return usual and len(ours) == len(theirs) and all(same(a, b) for a, b in zip(ours, theirs, strict=True))
