"""Layers with numbers of their own, which a configuration of the library's can't say: a file of code beside it makes
each layer of a configuration in which some numbers are others."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..scratch import import_text
from ..shown import template
from .entries import Number
from .entries import Path as Place
from .folder import library, made, values_of

_LISTS = (nn.ModuleList, nn.Sequential)
_PLAIN = (bool, int, float, str, type(None))
_WIDTH = 100


@dataclass(frozen=True)
class LayerList:
    """A list of layers of one class, each made of a configuration. ``home``: its path in the model; ``config``: the
    expression for that configuration, at ``within`` in the model's; ``arguments``: what else a layer ``i`` is made of;
    ``size``: how many there are."""

    home: str
    cls: type
    config: str
    within: Place
    arguments: tuple[str, ...]
    size: int

    @property
    def place(self) -> str:
        return expression(self.home)

    @property
    def statement(self) -> str:
        """What makes one of them, of ``i``."""
        made = f"layers[i] = {self.cls.__module__.rpartition('.')[2]}.{self.cls.__name__}"
        inner = ", ".join([f"LayerConfig({self.config}, numbers, i)", *self.arguments])
        line = f"{made}({inner})"
        return line if len(line) <= _WIDTH else f"{made}(\n{' ' * 16}{inner}\n{' ' * 12})"

    def name_of(self, path: Place) -> str:
        """A number's name in the layers' configuration; empty where it isn't one."""
        inner = path[len(self.within) :]
        return str(inner[0]) if path[: len(self.within)] == self.within and len(inner) == 1 else ""


@dataclass(frozen=True)
class Modeling:
    """Code that makes a model's layers of numbers of their own."""

    file: str
    text: str
    cls: type[nn.Module]
    auto: tuple[str, ...]

    @property
    def auto_map(self) -> dict[str, str]:
        """For ``config.json``: which class opens the folder."""
        return {name: f"{self.file.removesuffix('.py')}.{self.cls.__name__}" for name in self.auto}


def expression(path: str) -> str:
    """How a module is reached from its model: ``self.encoder.layers[0].blocks``."""
    return "self" + "".join(f"[{p}]" if p.isdecimal() else f".{p}" for p in path.split(".") if p)


def layers_of(
    model: nn.Module, parameters: Mapping[str, Iterable[str]]
) -> dict[str, tuple[str, int] | None]:  # fmt: skip
    """Of each width, by the parameters that it is in: the innermost list of layers of one class that holds them all,
    and the place in it. A list within a layer of another one that is among these gives way to it."""
    found = {name: _layer_of(model, list(names)) for name, names in parameters.items()}
    homes = {place[0] for place in found.values() if place is not None}
    for name, place in found.items():
        outer = [h for h in homes if place is not None and place[0].startswith(f"{h}.")]
        if place is not None and outer:
            home = min(outer, key=len)
            inner = place[0][len(home) + 1 :].partition(".")[0]
            found[name] = home, list(model.get_submodule(home)._modules).index(inner)
    return found


def _layer_of(model: nn.Module, names: Sequence[str]) -> tuple[str, int] | None:
    parts = names[0].split(".")
    for end in range(len(parts) - 1, 0, -1):
        home = ".".join(parts[: end - 1])
        layers = model.get_submodule(home)
        inside = all(n.startswith(".".join(parts[:end]) + ".") for n in names)
        if inside and isinstance(layers, _LISTS) and len({type(m) for m in layers}) == 1:
            return home, list(layers._modules).index(parts[end - 1])
    return None


def layer_lists(model: nn.Module, homes: Iterable[str]) -> dict[str, LayerList | str]:
    """How the library makes the layers in these lists, found by making the model again on no device; a string says why
    code of a few lines can't make them."""
    classes = {home: type(next(model.get_submodule(home).children())) for home in homes}
    with _calls(set(classes.values())) as calls, torch.device("meta"):
        network = made(model, values_of(model))
    return {home: _layer_list(network, home, cls, calls) for home, cls in classes.items()}


@contextmanager
def _calls(classes: Iterable[type]) -> Iterator[dict[int, inspect.BoundArguments]]:
    """What the constructors of these classes are called with, by the object."""
    calls: dict[int, inspect.BoundArguments] = {}

    def noted(usual: Callable[..., None]) -> Callable[..., None]:
        def init(self: Any, *args: Any, **kwargs: Any) -> None:
            calls.setdefault(id(self), inspect.signature(usual).bind(self, *args, **kwargs))
            usual(self, *args, **kwargs)

        return init

    own = {cls: vars(cls).get("__init__") for cls in classes}
    for cls in own:
        setattr(cls, "__init__", noted(getattr(cls, "__init__")))  # noqa: B009, B010 (a type checker minds)
    try:
        yield calls
    finally:
        for cls, init in own.items():
            if init is None:
                delattr(cls, "__init__")
            else:
                setattr(cls, "__init__", init)  # noqa: B010


def _layer_list(
    network: nn.Module, home: str, cls: type, calls: Mapping[int, inspect.BoundArguments]
) -> LayerList | str:  # fmt: skip
    bound = [calls[id(layer)] for layer in network.get_submodule(home).children() if id(layer) in calls]
    size = len(list(network.get_submodule(home).children()))
    if len(bound) != size:
        return f"not all of {home} is made by the library's constructor"
    given = [{k: v for k, v in b.arguments.items() if k != next(iter(b.arguments))} for b in bound]
    names = [n for n, v in given[0].items() if isinstance(v, library().PreTrainedConfig)]
    found = _config_of(network, home, given[0][names[0]]) if len(names) == 1 else None
    if found is None or any(g[names[0]] is not given[0][names[0]] for g in given):
        return f"the layers of {home} aren't made of one configuration"
    arguments = []
    for name, parameter in bound[0].signature.parameters.items():
        values = [g.get(name, parameter.default) for g in given]
        if name == names[0] or name not in given[0] or all(v is parameter.default for v in values):
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            return f"the layers of {home} are made of {name}, any number of them"
        text = _argument(values)
        if text is None:
            return f"the layers of {home} are made of {name}, which isn't written in code"
        arguments.append(f"{name}={text}")
    before = next(iter(given[0])) == names[0]
    if not before:
        return f"the layers of {home} take something before their configuration"
    return LayerList(home, cls, *found, tuple(arguments), size)


def _config_of(network: nn.Module, home: str, config: Any) -> tuple[str, Place] | None:
    """The expression for a configuration in a model, and where in the model's it is."""
    root: Any = network
    parts = home.split(".")
    found = None
    for end in range(len(parts) + 1):
        module: Any = network.get_submodule(".".join(parts[:end]))
        if getattr(module, "config", None) is config:
            found = expression(".".join(parts[:end])) + ".config"
            break
    if found is None:
        return None
    if found == "self.config":
        return "config", ()
    within = next((name for name in root.config.sub_configs if getattr(root.config, name, None) is config), None)
    return found, () if within is None else (within,)


def _argument(values: Sequence[Any]) -> str | None:
    """What the values of all layers are as an expression of ``i``."""
    first = values[0]
    if all(type(v) is int for v in values) and all(v == first + i for i, v in enumerate(values)) and len(values) > 1:
        return f"i + {first}" if first else "i"
    if not all(_is_plain(v) for v in values):
        return None
    if all(type(v) is type(first) and v == first for v in values):
        return repr(first)
    if list(values) == [True] + [False] * (len(values) - 1):
        return "i == 0"
    return f"({', '.join(map(repr, values))})[i]"


def _is_plain(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return all(map(_is_plain, value))
    return isinstance(value, _PLAIN)


def modeling_of(model: nn.Module, lists: Sequence[LayerList]) -> Modeling:
    """The code for a model in which these lists have numbers of their own."""
    told: Any = model
    cls = type(model)
    modules = dict.fromkeys(c.__module__ for c in (cls, *(one.cls for one in lists)))
    auto = _auto_classes(model)
    text = template("modeling.py.j2").render(
        name=cls.__name__, config=type(told.config).__name__, home=cls.__module__.rpartition(".")[2], auto=auto[0],
        modules=[m.rpartition(".")[::2] for m in sorted(modules)], lists=lists,
        more=len(inspect.signature(cls.__init__).parameters) > 2,
        experts=told._can_set_experts_implementation(),
    )  # fmt: skip
    file = f"modeling_{told.config.model_type.replace('-', '_')}.py"
    return Modeling(file, text, getattr(import_text(text), cls.__name__), auto)


def code_of(model: nn.Module) -> Path | None:
    """The file of code that a model's configuration names, which lies beside it; None where it is the library's."""
    told: Any = model.config
    if not getattr(told, "auto_map", None) or is_librarys(model):
        return None
    return Path(inspect.getfile(type(model)))


def is_librarys(model: nn.Module) -> bool:
    """Whether a model's class is one that a package offers by its name."""
    cls = type(model)
    package, dot, _ = cls.__module__.partition(".")
    return bool(dot) and getattr(sys.modules.get(package), cls.__name__, None) is cls


def _auto_classes(model: nn.Module) -> tuple[str, ...]:
    """The library's classes whose ``from_pretrained`` opens such a model, the likeliest first; the plainest where none
    is for it."""
    transformers = library()
    told: Any = model
    found = []
    for name in sorted(n for n in dir(transformers) if n.startswith("AutoModel")):
        mapping = getattr(getattr(transformers, name), "_model_mapping", None)
        classes = mapping.get(type(told.config), ()) if mapping is not None else ()
        if type(model) in (classes if isinstance(classes, tuple) else (classes,)):
            found.append(name)
    usual = ("CausalLM", "Seq2Seq") if told.can_generate() else ()  # what one opens it with who generates
    found.sort(key=lambda n: (not any(part in n for part in usual), n == "AutoModelForPreTraining"))
    return tuple(found) or ("AutoModel",)


# -- numbers


def by_layer(
    one: Number, layers: Mapping[str, tuple[str, int] | None], lists: Mapping[str, LayerList | str]
) -> list[Number] | str:
    """A number of all layers as one for each layer, and one for what lies in none, if it counts that, too; or why it
    is for all of them. ``layers``: of each width."""
    found: dict[tuple[str, int], dict[str, int]] = {}
    rest: dict[str, int] = {}
    for width, share in one.shares.items():
        place = layers[width]
        (rest if place is None else found.setdefault(place, {}))[width] = share
    if len(found) < 2:
        return "the layers share what it counts" if rest else "it counts channels of one layer alone"
    for home in {home for home, _ in found}:
        made_by = lists[home]
        if isinstance(made_by, str):
            return made_by
        if not all(made_by.name_of(e.path) for e in one.entries):
            return f"the layers of {home} are made of numbers that aren't in their configuration by this name"
    each = [replace(one, shares=shares, layer=place) for place, shares in sorted(found.items())]
    return [*each, replace(one, shares=rest)] if rest else each


def told_of_layers(
    steps: Sequence[tuple[Number, int]], lists: Mapping[str, LayerList], others: Mapping[Place, int | float]
) -> tuple[dict[Place, int | float], dict[str, dict[str, list[int | float]]]]:
    """What a configuration says where numbers of layers fell by so many steps: the largest of each, and for every list
    of layers those of each layer. ``others``: what it says of all that isn't in these layers."""
    each: dict[Place, dict[str, list[int | float]]] = {}
    found: dict[str, dict[str, list[int | float]]] = {home: {} for home in lists if steps}
    for one, gone in steps:
        assert one.layer is not None
        home, i = one.layer
        for entry in one.entries:
            values = each.setdefault(entry.path, {}).setdefault(home, [entry.value] * lists[home].size)
            values[i] = one.values(gone)[entry.path]
            if gone or others.get(entry.path, entry.value) != entry.value:
                found[home][lists[home].name_of(entry.path)] = values
    return {path: others.get(path, max(map(max, values.values()))) for path, values in each.items()}, found
