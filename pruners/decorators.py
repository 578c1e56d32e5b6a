"""Decorators that declare what a block ties together. They return the same class, unchanged but for a note.

    @basic_block(lType="basic_block", convs=["conv1", "conv2"], downsampling=["downsample"])
    class BasicBlock(nn.Module): ...

The note belongs to the class, so two classes with the same ``lType`` never see each other's layers. It holds the
``BlockKind``, and with it the dependency calculator, the model writer and the weight transfer unit of the class.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import nn

from .errors import DeclarationError
from .places import Site

C = TypeVar("C", bound=type[nn.Module])
Decorator = Callable[..., Callable[[C], C]]
_NOTE = "_secateur_declaration"
_SKIP = "_secateur_skip"


@dataclass(frozen=True, eq=False)
class BlockKind:
    """A kind of block and its parts.

    A part is an object, or where to import it from (``"package.module:name"``), so that model files, which import
    this module only, stay quick to load. ``writer`` and ``transfer`` are None where the defaults do.
    """

    name: str
    calculator: Any
    writer: Any = None
    transfer: Any = None
    arguments: tuple[str, ...] = ("convs", "downsampling")

    def part(self, name: str) -> Any:
        """``calculator``, ``writer`` or ``transfer``, imported if need be."""
        part = getattr(self, name)
        if not isinstance(part, str):
            return part
        module, _, attribute = part.partition(":")
        return getattr(importlib.import_module(module), attribute)


@dataclass(frozen=True)
class Declaration:
    """What a decorator says of its class: the attribute names of its convolutions in execution order, and of the
    modules on its shortcut. ``site`` is the decorator's own line."""

    lType: str
    convs: tuple[str, ...]
    downsampling: tuple[str, ...]
    site: Site
    kind: BlockKind

    def error(self, cls: type, path: str, text: str) -> DeclarationError:
        """A DeclarationError that names the decorator, its line, the class and the instance at ``path``."""
        where = f"{cls.__name__} ({path})" if path else cls.__name__
        return DeclarationError(f"@{self.kind.name} at {self.site}: {where} {text}", site=self.site)


def declaration_of(cls: type) -> Declaration | None:
    """The declaration of this very class; a subclass that changes forward declares anew."""
    return vars(cls).get(_NOTE)


def block_decorator(kind: BlockKind) -> Decorator:
    """A decorator for one kind of block, with keyword arguments ``lType`` (mandatory), ``convs`` (attribute names in
    execution order) and ``downsampling`` (attribute names), as far as the kind takes them. ``decorator.kind`` is the
    kind."""

    def decorator(*args: object, **given: Any) -> Callable[[C], C]:
        site = _caller(kind.name)
        _check_arguments(kind, site, args, given)
        convs, downsampling = (_names(kind.name, site, n, given.get(n, ())) for n in ("convs", "downsampling"))
        if not convs:
            raise _refused(kind.name, site, "convs must name the block's convolutions in execution order")
        declaration = Declaration(given["lType"], convs, downsampling, site, kind)

        def declare(cls: C) -> C:
            _check_class(kind.name, site, cls)
            if _NOTE in vars(cls):
                raise _refused(kind.name, site, f"{cls.__name__} is declared already, at {vars(cls)[_NOTE].site}")
            setattr(cls, _NOTE, declaration)
            return cls

        return declare

    decorator.kind = kind  # type: ignore[attr-defined]
    return decorator


basic_block = block_decorator(BlockKind("basic_block", "secateur.pruners.dependencies:RESIDUAL"))
bottleneck = block_decorator(BlockKind("bottleneck", "secateur.pruners.dependencies:RESIDUAL"))
mb_conv = block_decorator(BlockKind("mb_conv", "secateur.pruners.dependencies:MB_CONV"))
fire = block_decorator(BlockKind("fire", "secateur.pruners.dependencies:FIRE", arguments=("convs",)))


def skip(*args: object, **given: Any) -> Callable[[C], C]:
    """``@skip(convs=[...])``: never prune the output channels of these layers of the class, nor of its subclasses."""
    site = _caller("skip")
    if args or set(given) != {"convs"}:
        raise _refused("skip", site, "write @skip(convs=[...]), with the keyword and nothing else")
    names = _names("skip", site, "convs", given["convs"])

    def declare(cls: C) -> C:
        _check_class("skip", site, cls)
        own = vars(cls).get(_SKIP, {})
        setattr(cls, _SKIP, {**own, **dict.fromkeys(names, site)})
        return cls

    return declare


def skipped_layers(model: nn.Module) -> dict[str, Site]:
    """Module path -> place of the ``@skip`` that names it. Raises DeclarationError for a name that isn't there."""
    found: dict[str, Site] = {}
    for path, module in model.named_modules():
        for base in type(module).__mro__:
            for name, site in vars(base).get(_SKIP, {}).items():
                if layer_named(module, name) is None:
                    where = f"{type(module).__name__} ({path})" if path else type(module).__name__
                    raise _refused("skip", site, f"{where} has no layer {name}{closest(module, name)}")
                found.setdefault(f"{path}.{name}" if path else name, site)
    return found


def layer_named(module: nn.Module, name: str) -> nn.Module | None:
    """The sub-module of that (dotted) name; None if there is none."""
    return dict(module.named_modules(remove_duplicate=False)).get(name) if name else module


def closest(module: nn.Module, name: str) -> str:
    """``", did you mean ...?"`` with the module's most similar layer name, or nothing."""
    found = difflib.get_close_matches(name, [n for n, _ in module.named_modules() if n], 1)
    return f", did you mean {found[0]}?" if found else ""


def _caller(function: str) -> Site:
    """Where the decorator stands: the frame above the decorator's own."""
    frame = sys._getframe(2)
    return Site(frame.f_code.co_filename, frame.f_lineno, function)


def _refused(kind: str, site: Site, text: str) -> DeclarationError:
    return DeclarationError(f"@{kind} at {site}: {text}", site=site)


def _check_arguments(kind: BlockKind, site: Site, args: tuple[object, ...], given: dict[str, Any]) -> None:
    form = f"@{kind.name}(lType=..., {', '.join(f'{a}=[...]' for a in kind.arguments)})"
    if args:
        raise _refused(kind.name, site, f"write {form}, with keywords")
    unknown = sorted(set(given) - {"lType", *kind.arguments})
    if unknown:
        raise _refused(kind.name, site, f"there is no argument {unknown[0]}: write {form}")
    if not isinstance(given.get("lType"), str) or not given["lType"]:
        raise _refused(kind.name, site, f"lType is missing: write {form}")


def _names(kind: str, site: Site, argument: str, given: Any) -> tuple[str, ...]:
    if not isinstance(given, (list, tuple)) or not all(isinstance(n, str) and n for n in given):
        raise _refused(kind, site, f"{argument} must be a list of attribute names, not {given!r}")
    if len(set(given)) < len(given):
        raise _refused(kind, site, f"{argument} names a layer twice: {', '.join(given)}")
    return tuple(given)


def _check_class(kind: str, site: Site, cls: object) -> None:
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise _refused(kind, site, f"it stands before a class that derives from nn.Module, not before {cls!r}")
