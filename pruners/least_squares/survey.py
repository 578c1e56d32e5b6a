"""One pass over a network that finds what its layers can be fitted to.

A layer stands for its own output. Where nothing but scales, shifts and movements lie between that output and a sum, and
the other summand is settled by then, it stands for the sum: what earlier layers have lost can be made good there.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from ..run import hooked, tree_leaves
from .affine_paths import Follower, Trail, mean_of

_READS = {"item", "tolist", "numpy", "__bool__", "__float__", "__int__", "__index__", "equal", "allclose"}


@dataclass(frozen=True)
class Stop:
    """A layer that is fitted. ``way``: names of the steps to the sum it is fitted to, None where it is fitted to its
    own output; ``mean``: the running mean, by its key, that can take a constant for a layer without bias."""

    layer: str
    calls: int = 1
    way: tuple[str, ...] | None = None
    mean: str | None = None


@dataclass
class Survey:
    """``stops`` in the order in which they run; ``held``: bytes of activations that are alive at once."""

    stops: dict[str, Stop] = field(default_factory=dict)
    held: int = 0


def survey(network: nn.Module, layers: Collection[str], batch: Tensor) -> Survey:
    """Run the network, which must be in eval mode, once. Layers that don't run have no stop."""
    scout = _Scout(network)
    hooks = []
    for name in layers:
        module = network.get_submodule(name)
        entering = functools.partial(_entering, scout, name)
        hooks.append(module.register_forward_pre_hook(entering, with_kwargs=True))
        hooks.append(module.register_forward_hook(lambda _, args, y, name=name: scout.leave(name, y)))
    with hooked(hooks), torch.no_grad(), scout:
        network(batch)
    return scout.found(network)


def _entering(scout: _Scout, name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    scout.enter(name, input_of(args, kwargs))


def input_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """What a layer is called with."""
    return args[0] if args else kwargs["input"]


class _Scout(Follower):
    def __init__(self, network: nn.Module) -> None:
        super().__init__([*network.parameters(), *network.buffers()], self._sum)
        self._calls: list[str] = []
        self._began: dict[Trail, int] = {}
        self._entered: dict[str, tuple[Tensor, int]] = {}
        self._inputs: dict[Trail, tuple[Tensor, int]] = {}
        self._sums: dict[str, Trail] = {}
        self._reused: dict[Trail, set[int]] = {}
        self._links = WeakTensorKeyDictionary()  # a tensor of a trail -> [the trail, which step made it, times read]
        self._origins = WeakTensorKeyDictionary()  # a tensor -> the open trails it is made from
        self._open: set[Trail] = set()
        self._norms: Counter[int] = Counter()
        self._first_norm: dict[Trail, Tensor] = {}
        self._held = 0

    # -- layers

    def enter(self, layer: str, x: Tensor) -> None:
        self._entered[layer] = (x, x._version)
        alive = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in self._origins}
        self._held = max(self._held, sum(alive.values()))

    def leave(self, layer: str, y: Any) -> None:
        trail = Trail(layer, y, y)
        self._began[trail] = len(self._calls)
        self._inputs[trail] = self._entered.pop(layer)
        self._calls.append(layer)
        self._reused[trail] = set()
        self._open.add(trail)
        self._links[y] = [trail, 0, 0]
        self._origins[y] = self._origins.get(y, frozenset()) | {trail}
        self.follow(trail)

    # -- operations

    def called(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        operands = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        name = getattr(func, "__name__", "")
        if name == "batch_norm":
            self._norms[id(mean_of(args, kwargs))] += 1
        before = {trail: len(trail.steps) for trail in self._open}
        out = super().called(func, args, kwargs)
        made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        if made or name in _READS:
            self._count(operands, made)
        for trail, steps in before.items():
            if len(trail.steps) > steps:
                self._links[trail.front] = [trail, len(trail.steps), 0]
                if name == "batch_norm" and steps == 0:
                    self._first_norm[trail] = mean_of(args, kwargs)  # type: ignore[assignment]
        origin = frozenset().union(*(self._origins.get(t, frozenset()) for t in operands)) & self._open
        for tensor in made:
            self._origins[tensor] = origin
        return out

    def _count(self, operands: list[Tensor], made: list[Tensor]) -> None:
        for tensor in operands:
            link = self._links.get(tensor)
            if link is None:
                continue
            link[2] += 1
            if link[2] > 1:
                self._reused[link[0]].add(link[1])
            if any(tensor is m for m in made):  # changed in place: another value from here on
                del self._links[tensor]

    def _sum(self, trail: Trail, other: Tensor) -> None:
        x, version = self._inputs[trail]
        alone = self._began[trail] == len(self._calls) - 1  # no layer in between that is fitted later
        if alone and x._version == version and trail not in self._origins.get(other, frozenset()):
            self._sums[trail.layer] = trail
        self._open.discard(trail)

    def _end(self, trail: Trail) -> None:
        super()._end(trail)
        self._inputs.pop(trail, None)

    # -- outcome

    def found(self, network: nn.Module) -> Survey:
        calls = Counter(self._calls)
        keys = {id(b): key for key, b in network.named_buffers(remove_duplicate=False)}
        stops = {}
        for trail, number in self._began.items():
            layer, reused = trail.layer, self._reused[trail]
            last = number == max(i for i, called in enumerate(self._calls) if called == layer)
            if not last:
                continue
            once = calls[layer] == 1
            summed = once and self._sums.get(layer) is trail and not reused
            mean = self._first_norm.get(trail)
            free = once and mean is not None and 0 not in reused and self._norms[id(mean)] == 1
            way = tuple(step.name for step in trail.steps) if summed else None
            stops[layer] = Stop(layer, calls[layer], way, keys.get(id(mean)) if free else None)
        return Survey(stops, self._held)
