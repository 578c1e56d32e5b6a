"""What the author wrote: classes, arguments, names, comments."""

from __future__ import annotations

from .arguments import (
    argument_hints,
    bind,
    call_in,
    call_in_constructor,
    handed_in_loop,
    in_comprehensions,
    parameter_names,
)
from .bindings import binding, for_checkers, installed, module_of, namespace_of, own, usual
from .classes import AuthorClass, AuthorParameter, Unproved, evaluate
from .comments import Comments
from .decorators import only_notes
from .helpers import Helpers
from .library import (
    Library,
    attributes_of,
    choose_imported,
    file_of,
    homes_of,
    is_simple,
    module_at,
    taken_whole,
    top_name,
)
from .marked import bared
from .namer import Namer, unwelcome
from .numbers import (
    Asked,
    Equation,
    Read,
    Traced,
    TracedFloat,
    Written,
    again,
    compensated,
    decided,
    meant,
    reads_of,
    settled,
    solved,
    traced,
    with_numbers,
)
from .options import is_options, same_options
from .reads import (
    DROPPED,
    attribute_reads,
    code_in,
    factors,
    methods_of,
    only_for,
    own_tests,
    reads_of_helpers,
)
from .scope import Scope, Vector, as_term

__all__ = [
    "DROPPED", "Asked", "AuthorClass", "AuthorParameter", "Comments", "Equation", "Helpers", "Library", "Namer", "Read",
    "Scope", "Traced", "TracedFloat", "Unproved", "Vector", "Written",
    "again", "argument_hints", "as_term", "attribute_reads", "attributes_of", "bared", "bind", "binding", "call_in",
    "call_in_constructor", "choose_imported", "code_in", "compensated", "decided", "evaluate", "factors", "file_of",
    "for_checkers", "handed_in_loop", "homes_of", "in_comprehensions", "installed", "is_options", "is_simple",
    "meant", "methods_of", "module_at", "module_of", "namespace_of", "only_for", "only_notes", "own", "own_tests",
    "parameter_names", "reads_of", "reads_of_helpers", "same_options", "settled", "solved", "taken_whole",
    "top_name", "traced", "unwelcome", "usual", "with_numbers",
]
