"""Running somebody's network: its arguments, frames, modes and signals, and processes that hold nothing of ours."""

from __future__ import annotations

from . import isolated
from .batch_norm import estimate_batch_norm
from .buffers import SAVED, SMALL, UNSAVED, dense, is_blank, same_values
from .calling import (
    FunctionMode,
    Modules,
    as_it_was,
    batch_size,
    call_arguments,
    examples_of,
    hooked,
    images_of,
    labels_of,
    name_of,
    require_inputs,
    require_module,
    same_mode,
    scores_of,
    training_batch,
)
from .copying import copied, twin
from .decisions import AsDecided, Decision, decision
from .einops_calls import axes_named, rearrange
from .forks import Left, pieces, span_of, tree_of
from .frames import (
    NO_COLUMNS,
    author_frame,
    author_site,
    describe,
    described,
    forward_site,
    in_stand_in,
    is_author_file,
    is_library_file,
    layer_frame,
    run,
    site_of,
    span,
)
from .interrupts import StopRequest, interrupt_as_flag
from .isolated import (
    INTERNAL,
    DispatchMode,
    Streamed,
    from_files,
    state_of,
    stream,
    streams,
    take,
    tensors_in,
    undoing,
    values_in,
    without_traces,
)
from .lazy import is_lazy_network, settle_alike, settle_sizes
from .other_inputs import larger_batch, larger_sizes
from .repeatable import repeatable
from .torch_private import (
    CONV_FORWARD,
    TRUNCATED_NORMAL,
    BatchNormBase,
    ConvBase,
    ConvTransposeBase,
    NormBase,
    OpOverload,
    WithoutTorchDispatch,
    WithoutTorchFunction,
    gather_weights,
    infer_sizes,
    paddings,
    schema_of,
    storage_of,
    tree_flatten,
    tree_leaves,
    tree_map,
    unsaved_buffers,
    without_modes,
)
from .ways import Visit, Watch, Way, misfit, unwatched
from .wrappers import computes_weights, plain, precision_of, rounded, unloaded, unwrapped, wide, widened

__all__ = [
    "CONV_FORWARD", "INTERNAL", "NO_COLUMNS", "SAVED", "SMALL", "TRUNCATED_NORMAL", "UNSAVED", "AsDecided",
    "BatchNormBase", "ConvBase", "ConvTransposeBase", "Decision", "DispatchMode", "FunctionMode", "Left", "Modules",
    "NormBase", "OpOverload", "StopRequest", "Streamed", "Visit", "Watch", "Way", "WithoutTorchDispatch",
    "WithoutTorchFunction", "as_it_was", "author_frame", "author_site", "axes_named", "batch_size", "call_arguments",
    "computes_weights", "copied", "decision", "dense", "describe", "described", "estimate_batch_norm", "examples_of",
    "forward_site", "from_files", "gather_weights", "hooked", "images_of", "in_stand_in", "infer_sizes",
    "interrupt_as_flag", "is_author_file", "is_blank", "is_lazy_network", "is_library_file", "isolated", "labels_of",
    "larger_batch", "larger_sizes", "layer_frame", "misfit", "name_of", "paddings", "pieces", "places", "plain",
    "precision_of", "rearrange", "repeatable", "require_inputs", "require_module", "rounded", "run", "same_mode",
    "same_values", "schema_of", "scores_of", "settle_alike", "settle_sizes", "site_of", "span", "span_of", "state_of",
    "storage_of", "stream", "streams", "take", "tensors_in", "training_batch", "tree_flatten", "tree_leaves",
    "tree_map", "tree_of", "twin", "undoing", "unloaded", "unsaved_buffers", "unwatched", "unwrapped", "values_in",
    "wide", "widened", "without_modes", "without_traces",
]
