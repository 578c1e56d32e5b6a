"""Choosing by time: measured times of layers, and the predicted time of every pruned version of a network."""

from pruners.latency.measuring import Measuring, with_batch
from pruners.latency.model import LatencyModel
from pruners.latency.table import Table
from pruners.latency.timing import Run, in_turns, machine

__all__ = ["LatencyModel", "Measuring", "Run", "Table", "in_turns", "machine", "with_batch"]
