"""A pass over a network that calls back at its stops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..run import hooked
from .affine_paths import Follower, Trail
from .survey import Stop, input_of


class Enough(BaseException):
    """The rest of a pass isn't needed. No error that a network could handle."""


class Visitor:
    """What happens at the stops. ``call`` counts the calls of a layer within a pass."""

    def enters(self, stop: Stop, call: int, x: Tensor) -> None:
        """The layer is about to read ``x``."""

    def leaves(self, stop: Stop, call: int, y: Tensor) -> None:
        """The layer has made ``y``."""

    def joins(self, stop: Stop, trail: Trail, other: Tensor) -> None:
        """What has become of the layer's output is about to be added to ``other``."""


def visit(network: nn.Module, batch: Tensor, stops: Sequence[Stop], visitor: Visitor) -> None:
    """Run the network on the batch until the visitor has enough."""
    by_layer = {stop.layer: stop for stop in stops}
    calls = dict.fromkeys(by_layer, 0)
    follower = Follower(
        [*network.parameters(), *network.buffers()], lambda trail, other: _joins(visitor, by_layer, trail, other)
    )
    hooks = []
    for stop in stops:
        module = network.get_submodule(stop.layer)
        hooks.append(module.register_forward_pre_hook(partial(_enter, visitor, stop, calls), with_kwargs=True))
        hooks.append(module.register_forward_hook(partial(_leave, visitor, stop, calls, follower)))
    following = follower if any(stop.way is not None for stop in stops) else nullcontext()
    with hooked(hooks), torch.no_grad(), following, suppress(Enough):
        network(batch)


def _enter(
    visitor: Visitor, stop: Stop, calls: Mapping[str, int], module: nn.Module, args: Any, kwargs: dict[str, Any]
) -> None:
    visitor.enters(stop, calls[stop.layer], input_of(args, kwargs))


def _leave(
    visitor: Visitor, stop: Stop, calls: dict[str, int], follower: Follower, module: nn.Module, args: Any, y: Any
) -> None:
    calls[stop.layer] += 1
    visitor.leaves(stop, calls[stop.layer] - 1, y)
    if stop.way is not None:
        follower.follow(Trail(stop.layer, y, y))


def _joins(visitor: Visitor, stops: Mapping[str, Stop], trail: Trail, other: Tensor) -> None:
    if len(trail.steps) == len(stops[trail.layer].way or ()):
        visitor.joins(stops[trail.layer], trail, other)
