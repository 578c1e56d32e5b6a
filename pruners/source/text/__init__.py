"""Source text: files, statements, layout."""

from __future__ import annotations

from .concrete import Concrete, Line, own_parentheses
from .dead_branches import without_dead_branches
from .docstrings import without_entries
from .files import Definition, FunctionNode, Position, SourceFile, Sources, code_of
from .layout import STEP, WIDTH, Group, commented, flat, labelled, lines_of
from .names_in import filled_names, is_usable_name, loaded_names, stored_names, with_values
from .quoting import as_docstring, quoted
from .renames import free, quoted_notes, renamed
from .splicing import spliced
from .statements import (
    Lines,
    indented,
    is_docstring,
    numbered,
    only_raises,
    only_removes,
    parsed,
    rows,
    same_code,
    tidy,
    uses,
    warns,
    within,
)

__all__ = [
    "STEP", "WIDTH", "Concrete", "Definition", "FunctionNode", "Group", "Line", "Lines", "Position", "SourceFile",
    "Sources", "as_docstring", "code_of", "commented", "filled_names", "flat", "free", "indented", "is_docstring",
    "is_usable_name", "labelled", "lines_of", "loaded_names", "numbered", "only_raises", "only_removes",
    "own_parentheses", "parsed", "quoted", "quoted_notes", "renamed", "rows", "same_code", "spliced", "stored_names",
    "tidy", "uses", "warns", "with_values", "within", "without_dead_branches", "without_entries",
]
