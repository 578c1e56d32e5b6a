"""Options of the command line, as click reads them and as commands get them. Imports nothing heavy."""

from __future__ import annotations

from . import flags
from .options import (
    ApplyOptions,
    BundleOptions,
    CheckOptions,
    CommonOptions,
    CurvesOptions,
    EvaluateOptions,
    InspectOptions,
    NetworkOptions,
    ProfileOptions,
    PruneOptions,
    QuantizeOptions,
    StepOptions,
    SubjectOptions,
    TrainOptions,
)

__all__ = [
    "ApplyOptions", "BundleOptions", "CheckOptions", "CommonOptions", "CurvesOptions", "EvaluateOptions",
    "InspectOptions", "NetworkOptions", "ProfileOptions", "PruneOptions", "QuantizeOptions", "StepOptions",
    "SubjectOptions", "TrainOptions", "flags",
]
