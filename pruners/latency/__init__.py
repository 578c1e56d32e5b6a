"""Choosing by time: measured times of layers, and the predicted time of every pruned version of a network."""

from __future__ import annotations

from .measuring import Measuring, with_batch
from .model import LatencyModel
from .table import Table
from .timing import Run, device_of, in_turns, machine
from .verdict import latencies, verdict, verdict_text

__all__ = [
    "LatencyModel", "Measuring", "Run", "Table", "device_of", "in_turns", "latencies", "machine",
    "verdict", "verdict_text", "with_batch",
]
