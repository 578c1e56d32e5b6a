"""Weights of the pruned network, made better than the slices. Importing this registers the strategies."""

from __future__ import annotations

from . import least_squares, slices_and_bn
from .candidates import finishing, probing
from .on_device import candidates_on, carried_on
from .registry import TRANSFERS, Transfer, transfer, transfer_strategy

__all__ = [
    "TRANSFERS", "Transfer", "candidates_on", "carried_on", "finishing", "least_squares", "probing",
    "slices_and_bn", "transfer", "transfer_strategy",
]
