"""Parameters, MACs, bits and bytes: counted, predicted for every plan, and held to a budget."""

from __future__ import annotations

from ..budgets import check_layers
from .budget import (
    Allowance,
    Budget,
    Counts,
    Limits,
    Step,
    give_back,
    global_counts,
    grow,
    levels,
    shrink,
    uniform_counts,
)
from .model import CostModel, Costs, is_table, stored_tensors
from .precision import Quantize, input_bits, quantizer_of, register_precision, register_same_precision
from .profile import ProfileRow, measure, profile

__all__ = [
    "Allowance", "Budget", "CostModel", "Costs", "Counts", "Limits", "ProfileRow", "Quantize", "Step", "check_layers",
    "give_back", "global_counts", "grow", "input_bits", "is_table", "levels", "measure", "profile", "quantizer_of",
    "register_precision", "register_same_precision", "shrink", "stored_tensors", "uniform_counts",
]
