"""Models of Hugging Face's library: folders, and which numbers of a configuration count which widths."""

from __future__ import annotations

from .entries import Axis, Entry, Number, Shapes, changed, entries, in_proportion, number, numbers_in
from .fewer import fewer_layers
from .folder import (
    DTYPES,
    attention_of,
    completed,
    foretells,
    is_configured,
    longest,
    made,
    missing_in,
    one_by_one,
    open_folder,
    runs_one_by_one,
    save_folder,
    shapes_in,
    shapes_of,
    tokenizer_of,
    values_of,
)
from .inputs import inputs_of

__all__ = [
    "DTYPES", "Axis", "Entry", "Number", "Shapes", "attention_of", "changed", "completed", "entries", "fewer_layers",
    "foretells", "in_proportion", "inputs_of", "is_configured", "longest", "made", "missing_in", "number", "numbers_in",
    "one_by_one", "open_folder", "runs_one_by_one", "save_folder", "shapes_in", "shapes_of", "tokenizer_of",
    "values_of",
]
