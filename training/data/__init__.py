"""Data sets and how they are split; readers are imported when they are asked for."""

from __future__ import annotations

from .contents import contents
from .device import on_device
from .load import load_data
from .sets import Data, calibration_images, damaged_in, limited, require_labels, with_workers
from .splits import WHOLE, Part, Split, derive_seed, number_of_steps

__all__ = [
    "WHOLE", "Data", "Part", "Split", "calibration_images", "contents", "damaged_in", "derive_seed", "limited",
    "load_data", "number_of_steps", "on_device", "require_labels", "with_workers",
]
