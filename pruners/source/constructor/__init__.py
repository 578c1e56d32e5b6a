"""Constructors written anew from what they make."""

from __future__ import annotations

from .class_writer import ClassWriter
from .conditions import INDENT
from .context import make_context
from .parameters import Parameter, WrittenInit

__all__ = [
    "INDENT", "ClassWriter", "Parameter", "WrittenInit", "make_context",
]
