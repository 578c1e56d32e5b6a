"""Decorators that declare what a block ties together. They return the same class, unchanged but for a note."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import nn

from pruners.channel_graph import Site
from pruners.errors import DeclarationError

C = TypeVar("C", bound=type[nn.Module])
_NOTE = "_secateur_declaration"
_SKIP = "_secateur_skip"


@dataclass(frozen=True)
class Declaration:
    """What a decorator says of its class: the attribute names of its convolutions in execution order, and of the
    modules on its shortcut."""

    lType: str
    convs: tuple[str, ...]
    downsampling: tuple[str, ...]
    site: Site


def declaration_of(cls: type) -> Declaration | None:
    """The declaration of this very class; a subclass that changes forward declares anew."""
    return vars(cls).get(_NOTE)


def block_decorator(kind: str) -> Callable[..., Callable[[C], C]]:
    """A decorator for one kind of block, with keyword arguments ``lType``, ``convs`` and ``downsampling``."""

    def decorator(*args: object, lType: str = "", convs: Sequence[str] = (), downsampling: Sequence[str] = ()) -> Callable[[C], C]:
        caller = sys._getframe(1)
        site = Site(caller.f_code.co_filename, caller.f_lineno, kind)
        if args or not lType:
            raise DeclarationError(f"@{kind} at {site}: write @{kind}(lType=..., convs=[...]), with keywords")

        def declare(cls: C) -> C:
            setattr(cls, _NOTE, Declaration(lType, tuple(convs), tuple(downsampling), site))
            return cls

        return declare

    return decorator


basic_block = block_decorator("basic_block")
bottleneck = block_decorator("bottleneck")
mb_conv = block_decorator("mb_conv")
fire = block_decorator("fire")


def skip(*, convs: Sequence[str]) -> Callable[[C], C]:
    """Never prune the output channels of these layers of the class."""
    caller = sys._getframe(1)
    site = Site(caller.f_code.co_filename, caller.f_lineno, "skip")

    def declare(cls: C) -> C:
        setattr(cls, _SKIP, (tuple(convs), site))
        return cls

    return declare


def skipped_layers(model: nn.Module) -> dict[str, Site]:
    """Module path -> place of the ``@skip`` that names it."""
    found = {}
    for path, module in model.named_modules():
        names, site = vars(type(module)).get(_SKIP, ((), None))
        for name in names:
            found[f"{path}.{name}" if path else name] = site
    return found
