"""Who writes the source of a class: the structural writer of ``pruners.source``, unless the class has its own.

A class has its own writer through its decorator's ``BlockKind``.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from .decorators import declaration_of


class Writer:
    """Writes a class anew. Override ``class_source`` for a class that the structural writer can't express."""

    def class_source(self, cls: type[nn.Module], instances: Mapping[str, nn.Module], source: str) -> str:
        """The text of the class for the generated file.

        ``instances``: module path -> sliced instance. ``source``: what the structural writer made of the class.
        The constructor must keep the parameters it has there, as calls of it are written already.
        """
        return source


DEFAULT = Writer()


def writer_of(cls: type[nn.Module]) -> Writer:
    """The writer of the kind that decorates the class, else the structural one."""
    declaration = declaration_of(cls)
    own = declaration.kind.part("writer") if declaration is not None else None
    return own or DEFAULT
