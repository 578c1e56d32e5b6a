"""What the live network tells: how its modules were made, and their values as terms."""

from __future__ import annotations

from .closures import Renewal, cells, holds, names_bound, placed_in, with_equal_sides
from .construction import Birth, Frame, attempted, called_with, constructed, loading_nothing, reseeded, undisturbed
from .records import BUFFER, CHILD, PARAMETER, PLAIN, Record, Recorder, Slot, holds_layers, layers_in
from .refuse import refuse
from .terms import (
    WIDTH_ARGUMENTS,
    Alias,
    Arg,
    Box,
    Call,
    Closure,
    Display,
    Either,
    Given,
    Hole,
    Item,
    Lit,
    Ref,
    Term,
    Text,
    Unsaid,
    for_instance,
    is_plain,
    made_of,
    same,
    same_vector,
    small_tensor,
    tensor_call,
    value_of,
)
from .torch_layers import AXES, call_of, one_for_all
from .tree import BOXES, Making, Tree, ancestors, author_init, is_authored, is_torch, joined, torch_base
from .values import cut_sizes, global_name, literal, numbers_in, sizes_now, term_of_value

__all__ = [
    "AXES", "BOXES", "BUFFER", "CHILD", "PARAMETER", "PLAIN", "WIDTH_ARGUMENTS", "Alias", "Arg", "Birth", "Box", "Call",
    "Closure", "Display", "Either", "Frame", "Given", "Hole", "Item", "Lit", "Making", "Record", "Recorder", "Ref",
    "Renewal", "Slot", "Term", "Text", "Tree", "Unsaid", "ancestors", "attempted", "author_init", "call_of",
    "called_with", "cells", "constructed", "cut_sizes", "for_instance", "global_name", "holds", "holds_layers",
    "is_authored", "is_plain", "is_torch", "joined", "layers_in", "literal", "loading_nothing", "made_of",
    "names_bound", "numbers_in", "one_for_all", "placed_in", "refuse", "reseeded", "same", "same_vector", "sizes_now",
    "small_tensor", "tensor_call", "term_of_value", "torch_base", "undisturbed", "value_of", "with_equal_sides",
]
