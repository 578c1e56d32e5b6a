"""What the original gives at the stops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from .affine_paths import Trail
from .linear_layers import outputs_at
from .sampling import Sampler
from .survey import Stop
from .visits import Enough, Visitor, visit

Targets = list[list[Tensor]]  # for each batch and call: (samples, outputs)


@dataclass
class Teacher:
    """``limits``: samples at most for each layer. ``outputs``: the output channels that are kept, where some are gone.

    Targets of as many layers as fit into ``memory`` (bytes) are looked up in one pass.
    """

    network: nn.Module
    stops: Sequence[Stop]
    outputs: Mapping[str, Tensor]
    batches: Sequence[Tensor]
    sampler: Sampler
    limits: Mapping[str, int]
    memory: int

    def __post_init__(self) -> None:
        self._known: dict[str, Targets] = {}

    def targets(self, stop: Stop) -> Targets:
        """They are forgotten once they are asked for."""
        if stop.layer not in self._known:
            self._known = self._looked_up(self._next(stop))
        return self._known.pop(stop.layer)

    def _next(self, stop: Stop) -> list[Stop]:
        chosen: list[Stop] = []
        size = 0
        for after in self.stops[self.stops.index(stop) :]:
            weight = self.network.get_submodule(after.layer).weight
            size += self.limits[after.layer] * len(weight) * weight.element_size()  # type: ignore[arg-type, operator]
            if chosen and size > self.memory:
                break
            chosen.append(after)
        return chosen

    def _looked_up(self, stops: list[Stop]) -> dict[str, Targets]:
        found: dict[str, Targets] = {stop.layer: [] for stop in stops}
        for number, batch in enumerate(self.batches):
            for calls in found.values():
                calls.append([])
            visit(self.network, batch, stops, _Notes(self, found, number, sum(stop.calls for stop in stops)))
        return found


class _Notes(Visitor):
    def __init__(self, teacher: Teacher, found: dict[str, Targets], number: int, left: int) -> None:
        self._teacher, self._found, self._number, self._left = teacher, found, number, left

    def leaves(self, stop: Stop, call: int, y: Tensor) -> None:
        self._found[stop.layer][self._number].append(self._rows(stop, call, y))
        if stop.way is None:
            self._one_less()

    def joins(self, stop: Stop, trail: Trail, other: Tensor) -> None:
        self._found[stop.layer][self._number][0] += self._rows(stop, 0, trail.pulled(other))
        self._one_less()

    def _rows(self, stop: Stop, call: int, y: Tensor) -> Tensor:
        teacher = self._teacher
        layer = teacher.network.get_submodule(stop.layer)
        total = y.numel() // len(layer.weight)  # type: ignore[arg-type]
        look = teacher.sampler.look(stop.layer, self._number, call, total, teacher.limits[stop.layer] / stop.calls)
        values = outputs_at(layer, y, look.rows.to(y.device))
        kept = teacher.outputs.get(stop.layer)
        return values if kept is None else values[:, kept.to(y.device)]

    def _one_less(self) -> None:
        self._left -= 1
        if not self._left:
            raise Enough
