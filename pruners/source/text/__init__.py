"""Source text: files, statements, layout."""

from __future__ import annotations

from .concrete import Concrete, Line
from .dead_branches import PASS, Folded, without_dead_branches
from .docstrings import without_arguments, without_entries
from .files import (
    Definition,
    FunctionNode,
    Position,
    SourceFile,
    Sources,
    call_around,
    code_of,
    definition_of,
    encloses,
    first_line,
    function_of,
    parameters_of,
    span_of,
)
from .layout import STEP, WIDTH, Group, commented, flat, labelled, lines_of
from .names_in import (
    arguments_of,
    defaults_of,
    filled_names,
    first_word,
    is_usable_name,
    last_word,
    loaded_names,
    only_call,
    pairs_of,
    stored_names,
    targets_of,
    value_named,
    with_values,
)
from .quoting import as_docstring, quoted
from .renames import free, quoted_notes, renamed
from .splicing import dedented, replaced, spliced
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
    "PASS", "STEP", "WIDTH", "Concrete", "Definition", "Folded", "FunctionNode", "Group", "Line", "Lines", "Position",
    "SourceFile", "Sources", "arguments_of", "as_docstring", "call_around", "code_of", "commented", "dedented",
    "defaults_of", "definition_of", "encloses", "filled_names", "first_line", "first_word", "flat", "free",
    "function_of", "indented", "is_docstring", "is_usable_name", "labelled", "last_word", "lines_of", "loaded_names",
    "numbered", "only_call", "only_raises", "only_removes", "pairs_of", "parameters_of", "parsed", "quoted",
    "quoted_notes", "renamed", "replaced", "rows", "same_code", "span_of", "spliced", "stored_names", "targets_of",
    "tidy", "uses", "value_named", "warns", "with_values", "within", "without_arguments", "without_dead_branches",
    "without_entries",
]
