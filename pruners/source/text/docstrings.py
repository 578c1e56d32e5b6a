"""Docstrings stay, but for the entries of arguments that are gone."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence, Set

from .files import Definition

_SECTION = re.compile(r"^(\s*)(Args|Arguments|Parameters|Keyword Args)\s*:\s*$")
_QUOTES = ('"""', "'''")
_ENTRY = re.compile(r"^(\s*)\*{0,2}(\w+)\s*(\([^)]*\)+)?\s*:")


def without_arguments(text: str, gone: Set[str]) -> str:
    """A class or function without the entries of these arguments in its docstring, and in its constructor's."""
    node, lines = ast.parse(text).body[0], text.split("\n")
    inits = [s for s in getattr(node, "body", ()) if isinstance(s, ast.FunctionDef) and s.name == "__init__"]
    for said in (*inits[::-1], node) if gone else ():
        if isinstance(said, Definition) and ast.get_docstring(said) is not None:
            inside = slice(said.body[0].lineno - 1, said.body[0].end_lineno)
            lines[inside] = without_entries(lines[inside], gone)
    return "\n".join(lines)


def without_entries(lines: Sequence[str], gone: Set[str]) -> list[str]:
    """The lines of a docstring (or of code that contains one) without the entries of these arguments.

    A section whose last entry goes is left out with its heading.
    """
    kept: list[str] = []
    i = 0
    while i < len(lines):
        heading = _SECTION.match(lines[i])
        if heading is None:
            kept.append(lines[i])
            i += 1
            continue
        end = _section_end(lines, i + 1, len(heading.group(1)))
        entries = _entries(lines[i + 1 : end])
        stays = [line for name, block in entries if name not in gone for line in block]
        if any(s.strip() for s in stays) or not entries:
            kept += [lines[i], *(stays if entries else lines[i + 1 : end])]
        else:
            while kept and not kept[-1].strip():
                kept.pop()
            end = _without_blank(lines, end, kept)
        i = end
    if len(kept) == 2 < len(lines) and kept[1].strip() in _QUOTES and len(kept[0].strip()) > len(kept[1].strip()):
        return [kept[0].rstrip() + kept[1].strip()]  # nothing but the summary is left
    return kept


def _section_end(lines: Sequence[str], start: int, indent: int) -> int:
    """The first line after the section: not blank, and no deeper than its heading."""
    end = start
    for i in range(start, len(lines)):
        text = lines[i].strip()
        if text and len(lines[i]) - len(lines[i].lstrip()) <= indent:
            break
        if text.endswith('"""') or text.endswith("'''"):
            break
        if text:
            end = i + 1
    return end


def _without_blank(lines: Sequence[str], end: int, kept: list[str]) -> int:
    """Drops the blank lines behind a section that went, if the docstring ends there."""
    after = end
    while after < len(lines) and not lines[after].strip():
        after += 1
    closing = after < len(lines) and lines[after].strip() in _QUOTES
    return after if closing or not kept else end


def _entries(lines: Sequence[str]) -> list[tuple[str, list[str]]]:
    """(argument, its lines); lines before the first entry come under an empty name."""
    first = next((s for s in lines if s.strip()), "")
    indent = len(first) - len(first.lstrip())
    found: list[tuple[str, list[str]]] = []
    for line in lines:
        match = _ENTRY.match(line)
        if match and len(match.group(1)) == indent:
            found.append((match.group(2), [line]))
        elif found:
            found[-1][1].append(line)
        else:
            return []
    return found
