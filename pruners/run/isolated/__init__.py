"""What also runs in a fresh process that can't import the toolkit: imports torch and the standard library only."""

from pathlib import Path

from .calling import as_double, call, step_by_step, tensors_in, transparent, widely
from .counting import DispatchMode, Loop, MacCounter, macs_of, products
from .draws import EvenDraws, seed, seeded
from .proof import compare, train_step
from .restoring import INTERNAL, buffers_restored, undoing, without_traces
from .streaming import (
    Streamed,
    from_files,
    room,
    state_of,
    stream,
    streamed,
    streams,
    take,
    values_in,
)

SCRIPT = str(Path(__file__).with_name("__main__.py"))  # what a fresh process runs

__all__ = [
    "INTERNAL", "SCRIPT", "DispatchMode", "EvenDraws", "Loop", "MacCounter", "Streamed", "as_double",
    "buffers_restored", "call", "compare", "from_files", "macs_of", "products", "room", "seed", "seeded", "state_of",
    "step_by_step", "stream", "streamed", "streams", "take", "tensors_in", "train_step", "transparent", "undoing",
    "values_in", "widely", "without_traces",
]  # fmt: skip
