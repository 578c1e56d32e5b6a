"""Constructors written anew from what they make."""

from __future__ import annotations

from .buffer_statements import alike
from .circles import Circle, Made
from .class_writer import ClassWriter
from .conditions import INDENT
from .context import ClassContext
from .parameters import Parameter, WrittenInit
from .replay import Replays
from .script_numbers import ScriptNumbers

__all__ = [
    "INDENT", "Circle", "ClassContext", "ClassWriter", "Made", "Parameter", "Replays", "ScriptNumbers", "WrittenInit",
    "alike",
]
