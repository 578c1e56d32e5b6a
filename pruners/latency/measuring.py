"""Measure what a latency model needs and isn't known yet: cells of the layers' grids, and a few versions as a whole."""

from __future__ import annotations

import hashlib
import inspect
import itertools
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..costs import Allowance
from ..errors import Interrupted, NotPrunableError
from ..graph import ChannelGraph, Realize, Width
from ..run import as_it_was, batch_size, call_arguments, described, tree_flatten, tree_map
from . import timing
from .layers import Layer, layers_of
from .model import Grid, LatencyModel, never_falling
from .table import Table
from .timing import Measure, Run

log = logging.getLogger(__name__)

Told = Callable[[int, int], None]
"""(cells done, cells in all)"""
_ROUNDS, _SECONDS = 11, 60.0
_VERSION_ROUNDS, _VERSION_SECONDS = 61, 30.0
_VERSIONS = (0.78, 0.53, 0.28)
_CELLS, _BYTES = 128, 256 * 2**20
"""Cells that take turns: few enough for the caches of kernels, and for memory."""


class Measuring:
    """Measures on ``device`` with inputs of ``batch``; all times are in ``table``, only what is missing is measured.

    ``realize`` makes the versions that are run as a whole; without it, or where it can't, only the whole network is.
    """

    def __init__(
        self, table: Table, *, device: torch.device | None = None, batch: int = 1,
        measure: Measure | None = None, told: Told = lambda done, total: None,
    ) -> None:  # fmt: skip
        self.table, self.batch, self.told = table, batch, told
        self.measure = measure or timing.in_turns
        self.device = device or torch.device("cpu")

    def model(
        self, network: nn.Module, graph: ChannelGraph, example_input: Any, allowance: Allowance,
        realize: Realize | None = None,
    ) -> LatencyModel:  # fmt: skip
        """Raises ``Interrupted`` after Ctrl-C; what was measured by then is kept."""
        inputs = with_batch(example_input, self.batch)
        with as_it_was(network):
            network.eval()
            try:
                return self._model(network, graph, inputs, allowance, realize)
            except KeyboardInterrupt:
                self.table.save()
                raise Interrupted(
                    f"measuring was interrupted; the times of {len(self.table.seconds)} layers are in {self.table.path}"
                ) from None

    def _model(
        self, network: nn.Module, graph: ChannelGraph, inputs: Any, allowance: Allowance, realize: Realize | None
    ) -> LatencyModel:
        args, kwargs = call_arguments(inputs)
        layers = [layer for layer in layers_of(network, graph, allowance, args, kwargs) if _can_be_cut(layer)]
        grids = self._grids(layers)
        versions = self._versions(network, graph, inputs, allowance, realize)
        return LatencyModel(graph, allowance.costs, grids, versions)

    # -- layers

    def _grids(self, layers: Sequence[Layer]) -> list[Grid]:
        names = {(layer, sizes): layer.cut(sizes).name for layer in layers for sizes in _cells(layer)}
        missing = {name: cell for cell, name in names.items() if name not in self.table.seconds}
        # neighbours in time are neither of one layer nor of one size, so a slow moment spoils no row of a grid
        order = sorted(missing, key=lambda name: hashlib.sha256(name.encode()).digest())
        done = 0
        if order:
            self.told(done, len(order))
        for group in _groups([missing[name] for name in order]):
            seconds = self._timed(group, _ROUNDS, _SECONDS * len(group) / len(order))
            self.table.seconds.update(zip((run.name for run in group), seconds, strict=True))
            self.table.save()
            done += len(group)
            self.told(done, len(order))
        grids = []
        for layer in layers:
            shape = [len(axis.measured) for axis in layer.axes] + [1] * (2 - len(layer.axes))
            known = [self.table.seconds[names[layer, sizes]] for sizes in _cells(layer)]
            grids.append(Grid(layer, never_falling(np.array(known).reshape(shape))))
        return grids

    def _timed(self, runs: Sequence[Run], rounds: int, seconds: float) -> list[float]:
        on_device = lambda value: value.to(self.device) if isinstance(value, Tensor) else value  # noqa: E731
        moved = [
            Run(run.name, run.model.to(self.device), tree_map(on_device, run.args), tree_map(on_device, run.kwargs))
            for run in runs
        ]
        return [max(taken, 1e-9) for taken in self.measure(moved, rounds, seconds)]

    # -- whole networks

    def _versions(
        self, network: nn.Module, graph: ChannelGraph, inputs: Any, allowance: Allowance, realize: Realize | None
    ) -> list[tuple[Mapping[str, int], float]]:
        wanted: list[Mapping[str, int]] = [{}]
        for fraction in _VERSIONS if realize is not None else ():
            counts = {name: allowance.nearest(name, fraction * size) for name, size in allowance.sizes.items()}
            if counts not in wanted and counts != allowance.sizes:
                wanted.append(counts)
        base = _network_facts(network, inputs)
        names = [f"{base} {hashlib.sha256(repr(sorted(c.items())).encode()).hexdigest()[:16]}" for c in wanted]
        if any(name not in self.table.seconds for name in names):
            self._run_versions(network, graph, inputs, wanted, names, realize)
        return [(c, self.table.seconds[n]) for c, n in zip(wanted, names, strict=True) if n in self.table.seconds]

    def _run_versions(
        self, network: nn.Module, graph: ChannelGraph, inputs: Any, wanted: Sequence[Mapping[str, int]],
        names: Sequence[str], realize: Realize | None,
    ) -> None:  # fmt: skip
        args, kwargs = call_arguments(inputs)
        runs = [Run(names[0], network, args, kwargs)]
        for name, counts in zip(names[1:], wanted[1:], strict=True):
            assert realize is not None
            try:
                small = realize(network, {w.name: _spread(w, counts[w.name]) for w in graph.widths})
            except NotPrunableError as error:
                log.warning("versions can't be run as a whole, so what is no layer counts as constant: %s", error)
                break
            runs.append(Run(name, small.eval(), args, kwargs))
        home = timing.device_of(network)
        try:
            seconds = self._timed(runs, _VERSION_ROUNDS, _VERSION_SECONDS)
        finally:
            network.to(home)
        self.table.seconds.update(zip((run.name for run in runs), seconds, strict=True))
        self.table.save()


def _cells(layer: Layer) -> Iterator[tuple[int, ...]]:
    return itertools.product(*(axis.measured for axis in layer.axes))


def _can_be_cut(layer: Layer) -> bool:
    """Whether the least version runs alone; one that doesn't counts as what is no layer."""
    try:
        with torch.no_grad():
            layer.cut([axis.measured[0] for axis in layer.axes])()
    except Exception as error:  # a layer of the user's own may do anything
        log.warning("%s can't be timed by itself and counts as constant: %s", layer.path, described(error))
        return False
    return True


def _groups(cells: Sequence[tuple[Layer, tuple[int, ...]]]) -> Iterator[list[Run]]:
    group: list[Run] = []
    held = 0
    for layer, sizes in cells:
        run = layer.cut(sizes)
        size = sum(t.nbytes for t in (*run.model.parameters(), *run.model.buffers(), *run.args))
        if group and (len(group) == _CELLS or held + size > _BYTES):
            yield group
            group, held = [], 0
        group.append(run)
        held += size
    if group:
        yield group


def _spread(width: Width, count: int) -> tuple[int, ...]:
    """So many groups, equally many of each block."""
    rounds = count // width.step
    blocks = [np.flatnonzero(width.block_of == b)[: rounds * share] for b, share in enumerate(width.share_of)]
    return tuple(int(i) for i in np.sort(np.concatenate(blocks)))


def with_batch(example_input: Any, batch: int) -> Any:
    """The first of the inputs, ``batch`` times."""
    had = batch_size(example_input)

    def sized(leaf: Any) -> Any:
        inner = isinstance(leaf, Tensor) and leaf.ndim > 0 and leaf.shape[0] == had
        return leaf[:1].repeat(batch, *[1] * (leaf.ndim - 1)) if inner else leaf

    return example_input if had == batch else tree_map(sized, example_input)


def _network_facts(network: nn.Module, inputs: Any) -> str:
    """The network by a hash of its modules, their tensors, the files of their classes, and what it is called with."""
    kinds = {type(m) for m in network.modules() if not type(m).__module__.startswith("torch.")}
    files = sorted({f for kind in kinds if (f := _file(kind))})
    leaves, layout = tree_flatten(inputs)
    facts = [
        repr(network),
        [(name, list(t.shape), str(t.dtype)) for name, t in network.state_dict().items() if isinstance(t, Tensor)],
        [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files],
        [(list(x.shape), str(x.dtype)) if isinstance(x, Tensor) else repr(x) for x in leaves],
        str(layout),
    ]
    return f"{type(network).__name__} {hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]}"


def _file(kind: type) -> str:
    try:
        return inspect.getsourcefile(kind) or ""
    except TypeError:
        return ""
