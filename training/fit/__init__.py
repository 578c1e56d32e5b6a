"""Training: regimes, the loop, checkpoints, progress."""

from __future__ import annotations

from .checkpoints import (
    Checkpoint,
    ShapeError,
    beside,
    check_writable,
    load_checkpoint,
    load_weights,
    save_weights,
)
from .curve import curve_beside, curve_rows, read_curve, tensorboard_beside
from .execution import Execution, device_for, is_main
from .from_kind import load_from_kind
from .history import Epoch, FitResult, Watch
from .loop import EVALUATION_BATCH, Score, Stop, evaluate, fitting, resolve_device
from .memory import memory_explained
from .objective import Teacher
from .predictions import confusion, confusion_csv, mistakes, prediction_grid
from .progress import Progress, RichProgress, progress_on_stderr
from .regime import Regime
from .regimes import Purpose, find_regime, regime_for
from .trainer import fit

__all__ = [
    "EVALUATION_BATCH", "Checkpoint", "Epoch", "Execution", "FitResult", "Progress", "Purpose", "Regime",
    "RichProgress", "Score", "ShapeError", "Stop", "Teacher", "Watch", "beside", "check_writable",
    "confusion", "confusion_csv", "curve_beside", "curve_rows", "device_for", "evaluate", "find_regime",
    "fit", "fitting", "is_main", "load_checkpoint", "load_from_kind", "load_weights", "memory_explained", "mistakes",
    "prediction_grid", "progress_on_stderr", "read_curve", "regime_for", "resolve_device", "save_weights",
    "tensorboard_beside",
]
