"""Options of the command line, as click reads them and as commands get them. Imports nothing heavy."""

from __future__ import annotations

from . import early, flags, headings, streams
from .chosen import SETUP_PRUNER
from .early import (
    COMPARISON,
    GENERATED,
    PRETRAINED,
    budget_of,
    bundle_name,
    check_comparison,
    check_curves,
    check_retrained,
    check_trained,
    check_work,
    data_name,
    data_of,
    forget_finished,
    packed_folder,
    parse_shape,
    require_network,
    require_one,
    retrained_folder,
    trained_name,
    unfinished,
    work_folder,
)
from .names import ENDS
from .options import (
    WITHOUT_EFFECT,
    ApplyOptions,
    BundleOptions,
    CheckOptions,
    CommonOptions,
    CompareOptions,
    CurvesOptions,
    EvaluateOptions,
    InspectOptions,
    NetworkOptions,
    PackOptions,
    ProfileOptions,
    PruneOptions,
    QuantizeOptions,
    ReportOptions,
    StepOptions,
    SubjectOptions,
    TrainOptions,
    evaluation_of,
)

__all__ = [
    "COMPARISON", "ENDS", "GENERATED", "PRETRAINED", "SETUP_PRUNER", "WITHOUT_EFFECT", "ApplyOptions",
    "BundleOptions", "CheckOptions", "CommonOptions", "CompareOptions", "CurvesOptions", "EvaluateOptions",
    "InspectOptions", "NetworkOptions", "PackOptions", "ProfileOptions", "PruneOptions", "QuantizeOptions",
    "ReportOptions", "StepOptions", "SubjectOptions", "TrainOptions", "budget_of", "bundle_name", "check_comparison",
    "check_curves", "check_retrained", "check_trained", "check_work", "data_name", "data_of", "early", "evaluation_of",
    "flags", "forget_finished", "headings", "packed_folder", "parse_shape", "require_network", "require_one",
    "retrained_folder", "streams", "trained_name", "unfinished", "work_folder",
]
