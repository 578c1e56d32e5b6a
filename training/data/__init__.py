"""Data sets and how they are split; readers are imported when they are asked for."""

from __future__ import annotations

from .contents import contents
from .device import on_device
from .load import load_data
from .own import judged_by, synthetic
from .sets import (
    Data,
    calibration_images,
    damaged_in,
    limited,
    read_now,
    require_labels,
    require_trainable,
    with_workers,
)
from .splits import WHOLE, Part, Split, derive_seed, number_of_steps
from .text import LENGTH, batch_of, foretelling, load_text, perplexity

__all__ = [
    "LENGTH", "WHOLE", "Data", "Part", "Split", "batch_of", "calibration_images", "contents", "damaged_in",
    "derive_seed", "foretelling", "judged_by", "limited", "load_data", "load_text", "number_of_steps", "on_device",
    "perplexity", "read_now", "require_labels", "require_trainable", "synthetic", "with_workers",
]
