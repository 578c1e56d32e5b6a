"""Least squares along a network: the original and the pruned one side by side, layer after layer.

Each layer is fitted to what the original gives at its place, from what the pruned network, fitted so far, hands it.
Images that fit into memory go through the pruned network once, all together: at every stop the layer is fitted and the
pass goes on with it. Otherwise there is a pass of small batches for each layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from .affine_paths import Trail
from .fit import Fitted, System, apply
from .linear_layers import inputs_at, outputs_at, positions, unknowns
from .sampling import Look, Sampler
from .solve import RIDGE
from .survey import Stop
from .teacher import Targets, Teacher
from .visits import Enough, Visitor, visit

Report = Callable[[int, int, str], None]  # layers done, layers in all, the name of the last one


@dataclass(frozen=True)
class Settings:
    """``samples``: positions at most that a layer is fitted to; ``large``: inputs above which a layer is fitted to
    fewer samples than it has inputs; ``memory``: bytes for activations, and again for targets."""

    ridge: float = RIDGE
    samples: int = 20_000
    large: int = 6_000
    memory: int = 2 * 2**30
    seed: int = 0


class Walk:
    """``pruned`` is changed. ``outputs``: the output channels of layers that are kept, where some are gone."""

    def __init__(
        self, original: nn.Module, pruned: nn.Module, stops: Sequence[Stop], outputs: Mapping[str, Tensor],
        batches: Sequence[Tensor], settings: Settings, report: Report | None = None,
    ) -> None:  # fmt: skip
        self.pruned, self.stops, self.batches, self.settings = pruned, stops, batches, settings
        self.sampler = Sampler([len(b) for b in batches], settings.seed)
        self.limits = {stop.layer: self._limit(stop) for stop in stops}
        self._teacher = Teacher(original, stops, outputs, batches, self.sampler, self.limits, settings.memory)
        self._report = report or (lambda done, total, layer: None)
        self._found: list[Fitted] = []

    def run(self) -> list[Fitted]:
        if not self.stops:
            return []
        if len(self.batches) == 1 and all(stop.calls == 1 for stop in self.stops):
            visit(self.pruned, self.batches[0], self.stops, _Onward(self))
            return self._found
        for stop in self.stops:
            targets = self.targets(stop)
            system = self.system(stop, targets)
            for number, batch in enumerate(self.batches):
                visit(self.pruned, batch, [stop], _Gathering(self, system, targets, number))
            self.fit(stop, system)
        return self._found

    def targets(self, stop: Stop) -> Targets:
        return self._teacher.targets(stop)

    def layer(self, stop: Stop) -> nn.Module:
        return self.pruned.get_submodule(stop.layer)

    def system(self, stop: Stop, targets: Targets) -> System:
        samples = sum(len(rows) for calls in targets for rows in calls)
        return System(self.layer(stop), few=samples < unknowns(self.layer(stop)) - 1)

    def _limit(self, stop: Stop) -> int:
        few = unknowns(self.layer(stop)) - 1 > self.settings.large
        return min(self.settings.samples, self.settings.large) if few else self.settings.samples

    def look(self, stop: Stop, number: int, call: int, x: Tensor) -> Look:
        total = math.prod(positions(self.layer(stop), x))
        return self.sampler.look(stop.layer, number, call, total, self.limits[stop.layer] / stop.calls)

    def fit(self, stop: Stop, system: System) -> None:
        layer = self.layer(stop)
        mean = self.pruned.get_buffer(stop.mean) if stop.mean is not None else None
        change, how = system.fit(self.settings.ridge, shifted=layer.bias is not None or mean is not None)
        if change is not None:
            apply(layer, change, mean)
        self._found.append(replace(how, layer=stop.layer, summed=stop.way is not None))
        self._report(len(self._found), len(self.stops), stop.layer)


class _Gathering(Visitor):
    """Adds what a batch has to say about one layer, and needs no more of the pass then."""

    def __init__(self, walk: Walk, system: System, targets: Targets, number: int) -> None:
        self._walk, self._system, self._targets, self._number = walk, system, targets, number

    def enters(self, stop: Stop, call: int, x: Tensor) -> None:
        self._look = self._walk.look(stop, self._number, call, x)
        self._x = inputs_at(self._walk.layer(stop), x, self._look.rows.to(x.device))
        if stop.way is None:
            self._add(stop, call, self._targets[self._number][call])

    def joins(self, stop: Stop, trail: Trail, other: Tensor) -> None:
        lost = outputs_at(self._walk.layer(stop), trail.pulled(other), self._look.rows.to(other.device))
        self._add(stop, 0, self._targets[self._number][0] - lost)

    def _add(self, stop: Stop, call: int, target: Tensor) -> None:
        self._system.add(self._x, target, self._look.held.to(target.device))
        del self._x
        if call == stop.calls - 1:
            self._complete(stop)

    def _complete(self, stop: Stop) -> None:
        raise Enough


class _Onward(_Gathering):
    """Fits every layer as the pass with all images reaches it."""

    def __init__(self, walk: Walk) -> None:
        self._walk, self._number, self._left = walk, 0, len(walk.stops)

    def enters(self, stop: Stop, call: int, x: Tensor) -> None:
        self._targets = self._walk.targets(stop)
        self._system = self._walk.system(stop, self._targets)
        self._whole = x
        super().enters(stop, call, x)

    def joins(self, stop: Stop, trail: Trail, other: Tensor) -> None:
        super().joins(stop, trail, other)
        with torch.no_grad():  # what the fitted layer makes of it takes the place of what the sliced one made
            trail.front.copy_(trail.replay(self._walk.layer(stop).forward(self._whole)))

    def _complete(self, stop: Stop) -> None:
        self._walk.fit(stop, self._system)
        self._left -= 1
        if not self._left:
            raise Enough
