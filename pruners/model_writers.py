"""Who writes the source of a class: the structural writer of ``pruners.source``, unless the class has its own.

A class has its own writer through its decorator's ``BlockKind``, or through ``register_writer``; the registry is
keyed by the class itself and holds it weakly.
"""

from __future__ import annotations

from collections.abc import Mapping
from weakref import WeakKeyDictionary

from torch import nn

from .decorators import declaration_of
from .errors import DeclarationError


class Writer:
    """Writes a class anew. Override ``class_source`` for a class that the structural writer can't express."""

    def class_source(self, cls: type[nn.Module], instances: Mapping[str, nn.Module], source: str) -> str:
        """The text of the class for the generated file.

        ``instances``: module path -> sliced instance. ``source``: what the structural writer made of the class.
        The constructor must keep the parameters it has there, as calls of it are written already.
        """
        return source


DEFAULT = Writer()
_WRITERS: WeakKeyDictionary[type[nn.Module], Writer] = WeakKeyDictionary()


def register_writer(cls: type[nn.Module], writer: Writer) -> None:
    """Let ``writer`` write this class (not its subclasses)."""
    if not isinstance(writer, Writer):
        raise DeclarationError(f"the writer of {cls.__name__} must be a Writer, not {type(writer).__name__}")
    _WRITERS[cls] = writer


def writer_of(cls: type[nn.Module]) -> Writer:
    """The writer registered for the class, else the one of its decorator's kind, else the structural one."""
    declaration = declaration_of(cls)
    own = declaration.kind.part("writer") if declaration is not None else None
    return _WRITERS.get(cls) or own or DEFAULT
