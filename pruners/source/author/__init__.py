"""What the author wrote: classes, arguments, names, comments."""

from __future__ import annotations

from .arguments import (
    argument_hints,
    bind,
    call_in,
    call_in_constructor,
    handed_in_loop,
    in_comprehensions,
)
from .bindings import binding, for_checkers, installed, module_of, namespace_of, own, usual
from .classes import AuthorClass, AuthorParameter, Unproved, evaluate, proved, turns_out_alike
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
    alone,
    compensated,
    decided,
    implied,
    meant,
    reads_of,
    renewed,
    settled,
    solved,
    traced,
    with_numbers,
)
from .options import (
    differing,
    equal_alike,
    fields_of,
    is_options,
    named_values,
    numbers_by_place,
    same_options,
    with_fields,
    words_of,
)
from .reads import (
    DROPPED,
    attribute_reads,
    attributes_set,
    code_in,
    factors,
    methods_of,
    only_compared,
    only_for,
    own_tests,
    reads_of_helpers,
)
from .scope import Scope, Vector, as_term, term_of_default

__all__ = [
    "DROPPED", "Asked", "AuthorClass", "AuthorParameter", "Comments", "Equation", "Helpers", "Library", "Namer", "Read",
    "Scope", "Traced", "TracedFloat", "Unproved", "Vector", "Written", "again", "alone", "argument_hints", "as_term",
    "attribute_reads", "attributes_of", "attributes_set", "bared", "bind", "binding", "call_in", "call_in_constructor",
    "choose_imported", "code_in", "compensated", "decided", "differing", "equal_alike", "evaluate", "factors",
    "fields_of", "file_of", "for_checkers", "handed_in_loop", "homes_of", "implied", "in_comprehensions", "installed",
    "is_options", "is_simple", "meant", "methods_of", "module_at", "module_of", "named_values", "namespace_of",
    "numbers_by_place", "only_compared", "only_for", "only_notes", "own", "own_tests", "proved", "reads_of",
    "reads_of_helpers", "renewed", "same_options", "settled", "solved", "taken_whole", "term_of_default", "top_name",
    "traced", "turns_out_alike", "unwelcome", "usual", "with_fields", "with_numbers", "words_of",
]
