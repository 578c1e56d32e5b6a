"""Literals that mean exactly a given text, whatever it holds: nothing in it can end the literal and become code."""

from __future__ import annotations

import ast
import re

from ...errors import ValueTextError
from ...shown import visible

_ENDING = re.compile(r'"{3,}|"+\Z')


def quoted(text: str) -> str:
    """A string literal with double quotes unless that needs more escapes."""
    plain = repr(text)
    if plain.startswith("'") and '"' not in plain:
        plain = '"' + plain[1:-1].replace("\\'", "'") + '"'
    return _checked(plain, text)


def as_docstring(text: str) -> str:
    """A literal in three double quotes. Line ends stay; what can't be seen is escaped."""
    escaped = visible(text.replace("\\", "\\\\"))
    return _checked(f'"""{_ENDING.sub(lambda quotes: quotes[0].replace(chr(34), chr(92) + chr(34)), escaped)}"""', text)


def _checked(literal: str, text: str) -> str:
    """Read back by Python, the literal is the text."""
    try:
        found = ast.literal_eval(literal)
    except (ValueError, SyntaxError):
        found = None
    if found != text:
        raise ValueTextError(f"the text {text[:40]!r} can't be written as a literal")
    return literal
