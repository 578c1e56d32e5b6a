"""Words that name layers: a path, a part of the network, a pattern of paths, or a type."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from torch import nn

from .registry import closest

_GLOBS = frozenset("*?[")
_TYPES = {"type:": "", "nn.": "torch.nn", "torch.nn.": "torch.nn"}
"""How a type is written, and where its class must come from."""


def layers_named(word: str, layers: Iterable[str], model: nn.Module) -> list[str]:
    """Those of the layers that are meant, in their order. ``word``: ``layer3.0.conv1``; ``layer3``, all in it;
    ``layer3.*``, ``*.conv2``, as the shell matches names, where a star passes dots; ``nn.Linear``, or ``type:Block``,
    layers of the class or one made of it, and all in such parts.

    >>> layers_named("*.0", ["features.0", "features.3", "head"], model)
    ['features.0']
    """
    known = list(dict.fromkeys(layers))
    found = [layer for layer in known if any(_fits(word, path) for path in _paths(layer))]
    front = next((f for f in sorted(_TYPES, key=len, reverse=True) if word.startswith(f)), None)
    if found or front is None:
        return found
    of_type = {p for p, m in model.named_modules() if word.removeprefix(front) in _types(type(m), _TYPES[front])}
    return [layer for layer in known if not of_type.isdisjoint(_paths(layer))]


def nearest(word: str, layers: Iterable[str], model: nn.Module) -> str:
    """``; did you mean layer3?``, or which names or types there are."""
    known = list(dict.fromkeys(layers))
    paths = list(dict.fromkeys(path for layer in known for path in _paths(layer)))
    kinds = {type(model.get_submodule(path)) for path in paths}
    types = {t.__name__: f"{'nn.' if t.__module__.startswith('torch.nn') else 'type:'}{t.__name__}" for t in kinds}
    if front := next((front for front in _TYPES if word.startswith(front)), ""):
        close = closest(word.removeprefix(front), types)
        return f"; did you mean {types[close]}?" if close else f"; there are {', '.join(sorted(types.values()))}"
    if any(layer.endswith(f".{word}") for layer in known):
        return f"; did you mean *.{word}?"
    close = closest(word.strip("*?."), [*paths, *sorted(types.values())])
    guess = f"; did you mean {close}?" if close else ""
    if _GLOBS.isdisjoint(word):
        return guess
    parts = list(dict.fromkeys(path.partition(".")[0] for path in known))
    more = f" and {len(parts) - 6} more" if len(parts) > 6 else ""
    return f"{guess or ';'} a pattern is a glob over names, which begin with {', '.join(parts[:6])}{more}"


def _fits(word: str, path: str) -> bool:
    return word == path or (not _GLOBS.isdisjoint(word) and fnmatchcase(path, word))


def _paths(layer: str) -> list[str]:
    """The layer's and those of the parts it is in."""
    parts = layer.split(".")
    return [".".join(parts[:n]) for n in range(len(parts), 0, -1)]


def _types(cls: type, home: str) -> set[str]:
    return {c.__name__ for c in cls.__mro__ if c not in (nn.Module, object) and c.__module__.startswith(home)}
