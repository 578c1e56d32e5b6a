"""What a metric may look at, and the metrics by name.

A group owns one slice in each of its slots. Metrics look at the slices of weights (parameters with two axes or more);
biases and norm parameters have other scales and are left out, except by ``bn_scale``. ``slots`` says which slots
count: ``"all"`` (default), ``"producer"`` (weights that make the channel) or ``"consumer"`` (weights that read it).
A width that has none of the wanted kind uses all of its slots.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ..errors import NeedsDataError
from ..graph import ChannelGraph, Slot, Use, Width
from ..registry import Registry
from ..run import labels_of, values_in

FloatArray = npt.NDArray[np.float64]


Batch = tuple[torch.Tensor, torch.Tensor]


Scores = dict[str, torch.Tensor]


_ROLES = {"all": ("out", "in", "per"), "producer": ("out",), "consumer": ("in",)}


@dataclass
class Evidence:
    """What a metric may look at. ``notes`` collects remarks for the user."""

    model: nn.Module
    graph: ChannelGraph
    slots: str = "all"
    batches: Sequence[Batch] | None = None
    seed: int = 0
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.parameters = dict(self.model.named_parameters(remove_duplicate=False))

    def uses(self, width: Width) -> list[Use]:
        """The uses whose slices count: weights first, other parameters only where there are no weights."""
        stored = [u for u in width.uses if u.slot.parameter in self.parameters]
        weights = [u for u in stored if self._shape(u.slot).dim() > 1] or stored
        return [u for u in weights if u.role in _ROLES[self.slots]] or weights

    def slices(self, width: Width) -> list[torch.Tensor]:
        """For every use that counts, its slices: one row per group, float64."""
        return [slices(self.laid_out(u.slot), u) for u in self.uses(width)]

    def laid_out(self, slot: Slot) -> torch.Tensor:
        """The parameter of a slot, in the slot's shape."""
        return self.graph.laid_out(slot.parameter, values_in(self.parameters[slot.parameter]))

    def _shape(self, slot: Slot) -> torch.Tensor:
        return self.graph.laid_out(slot.parameter, self.parameters[slot.parameter])


Metric = Callable[[Evidence], Scores]


METRICS = Registry[Metric]("metric")


def metric(name: str, *, largest_first: bool = False, labels: bool = False) -> Callable[[Metric], Metric]:
    """Register a pure function: evidence -> for every width one value per group, the larger the more useful; with
    ``largest_first`` the less useful. ``labels``: it can't do without them.

    ``--search global`` compares values across widths, so they should be means over slots, not sums.
    """
    return METRICS.register(name, largest_first=largest_first, labels=labels)


def slices(tensor: torch.Tensor, use: Use) -> torch.Tensor:
    """The slices of one slot, one row per group of the width: (groups, elements), float64.

    A slot with blocks lies on axis 1 and its rows belong to convolution groups in order; see ``Slot``.
    """
    slot = use.slot
    if slot.blocks > 1:
        rows, columns = tensor.shape[:2]
        blocked = tensor.reshape(slot.blocks, rows // slot.blocks, columns, -1).transpose(1, 2)
        flat = blocked.reshape(slot.blocks * columns, -1)
    else:
        flat = tensor.movedim(slot.dim, 0).reshape(tensor.shape[slot.dim], -1)
    index = torch.from_numpy(use.index).to(tensor.device)
    return flat[index].reshape(index.shape[0], -1).double()


def relative(parts: list[torch.Tensor], size: int) -> torch.Tensor:
    """The mean over slots of ``v[g] / mean(v)``: no layer counts more because it is larger or scaled up."""
    total = torch.zeros(size, dtype=torch.float64)
    for part in parts:
        mean = part.mean().clamp_min(torch.finfo(torch.float64).tiny)
        total += (part / mean).cpu() / len(parts)
    return total


def check_labels(name: str, batches: Sequence[Any] | None) -> None:
    """UsageError where the metric needs labels and there are none, or no proper ones, in the batches."""
    if not METRICS.fact(name, "labels"):
        return
    if not batches:
        raise NeedsDataError(f"metric {name} needs labelled data; give --data or take l1")
    for batch in batches:
        labels_of(batch, f"metric {name}")
