"""Choosing by time: measured times of layers, and the predicted time of every pruned version of a network."""

from secateur.pruners.latency.measuring import Measuring, with_batch
from secateur.pruners.latency.model import LatencyModel
from secateur.pruners.latency.table import Table
from secateur.pruners.latency.timing import Run, device_of, in_turns, machine
from secateur.pruners.latency.verdict import latencies, verdict, verdict_text

__all__ = [
    "LatencyModel",
    "Measuring",
    "Run",
    "Table",
    "device_of",
    "in_turns",
    "latencies",
    "machine",
    "verdict",
    "verdict_text",
    "with_batch",
]
