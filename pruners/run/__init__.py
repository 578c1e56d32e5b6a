"""Running somebody's network: its arguments, frames, modes and signals, and processes that hold nothing of ours."""

from __future__ import annotations

from .batch_norm import settle
from .buffers import SMALL, UNSAVED, is_blank
from .calling import (
    Modules,
    as_it_was,
    batch_size,
    call_arguments,
    images_of,
    labels_of,
    name_of,
    training_batch,
)
from .frames import (
    NO_COLUMNS,
    author_frame,
    author_site,
    describe,
    forward_site,
    in_stand_in,
    is_author_file,
    layer_frame,
    run,
    site_of,
    span,
)
from .interrupts import StopRequest, interrupt_as_flag
from .isolated import tensors_in, without_compiler

__all__ = [
    "NO_COLUMNS", "SMALL", "UNSAVED", "Modules", "StopRequest", "as_it_was", "author_frame", "author_site",
    "batch_size", "call_arguments", "describe", "forward_site", "images_of", "in_stand_in", "interrupt_as_flag",
    "is_author_file", "is_blank", "labels_of", "layer_frame", "name_of", "run", "settle", "site_of", "span",
    "tensors_in", "training_batch", "without_compiler",
]
