"""What a file must compute: what the original does where nothing reads removed channels, or the live pruned network."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..errors import SecateurError
from ..graph import ChannelGraph
from ..run import DispatchMode, Streamed, hooked, isolated, streams, tree_leaves, twin
from ..slicing import corrected
from . import oracle
from .case import TOLERANCE
from .masking import UnlikeError, masking
from .outputs import outputs_of

Kept = Mapping[str, npt.ArrayLike]
Outputs = tuple[Tensor, ...]
_LOOSEST = 1e-3  # a difference that rounding alone can make says nothing


@dataclass(frozen=True)
class Setting:
    """Inputs and a mode; ``usual``: inputs of the example's shapes; ``resized``: as many of another size;
    ``example``: whose shapes they have.

    ``name`` begins with a comma, or is empty.
    """

    name: str
    inputs: Any
    training: bool = False
    usual: bool = False
    resized: bool = False
    example: int = 0


@dataclass(frozen=True)
class Found:
    """What the original gave: ``zeroed`` is None where it can't stand for the pruned one. ``drew``: random numbers."""

    setting: Setting
    zeroed: Outputs | None
    drew: bool


class Whole:
    """The original, in place of which its copy ``model`` is used up."""

    def __init__(self, model: nn.Module, graph: ChannelGraph, kept: Kept, double: bool) -> None:
        self._model = twin(model) if streams(model) else model  # what comes and goes is read from the given one
        self._graph, self._kept, self._double = graph, kept, double
        self._exact = oracle.exact(graph, kept)
        if self._exact:
            oracle.zero(model, graph, kept)
        self._counts: dict[bool, dict[str, int]] = {}  # of operations that are told what is gone; in training: True
        self._readers: dict[str, set[str]] | None = None  # zeroed parameter -> operations that read it
        self._zeroed = {s.parameter for s in graph.masks(kept)} if self._exact else set()
        self._reached: set[str] = set()
        self._rows: list[int] = []  # of the outputs for the example

    def at(self, setting: Setting) -> Found:
        """What it computes here; what it raises is raised."""
        reached: set[str] = set()
        with self._watching(reached):
            found = self._exactly(setting)
            out = found.zeroed if found else self._outputs(setting, isolated.EvenDraws(), nullcontext())
        rows = [t.shape[0] for t in out or () if t.ndim]
        if setting.usual:
            self._reached |= reached
            self._rows = self._rows or rows
        elif not reached <= self._reached:
            raise UnlikeError(f"{min(reached - self._reached)} is not reached by the example input")
        if setting.resized and rows != self._rows:
            raise UnlikeError("a reshape mixes images of this size")
        return found or Found(setting, None, True)

    def _outputs(self, setting: Setting, draws: isolated.EvenDraws, around: AbstractContextManager[None]) -> Outputs:
        return outputs_of(self._model, setting.inputs, self._double, lambda m: around, setting.training, draws)

    def tried(self, setting: Setting) -> list[Found]:
        """The same, or nothing where the original raises: then the pruned network may raise as well."""
        with suppress(Exception):
            return [self.at(setting)]
        return []

    def _exactly(self, setting: Setting) -> Found | None:
        """With nothing reading what is gone, if that can be had: operations have to be those of the trace."""
        if not self._exact:
            return None
        draws = isolated.EvenDraws()
        with suppress(UnlikeError):
            counts: dict[str, int] = {}
            reads = _Reads(self._model, self._zeroed)
            with reads:
                out = self._outputs(setting, draws, masking(self._graph, self._kept, counts, setting.training))
            if self._readers is None:
                self._readers = reads.names
            usual = all(names <= self._readers.get(key, set()) for key, names in reads.names.items())
            as_before = counts == self._counts.setdefault(setting.training, counts)
            if usual and as_before:  # a weight that is rounded in training only may read what is zeroed
                return Found(setting, out, draws.drew > 0)
        return None

    def _watching(self, reached: set[str]) -> AbstractContextManager[None]:
        def note(name: str) -> Any:
            return lambda *_: reached.add(name)

        owners = [(n, m) for n, m in self._model.named_modules() if next(m.parameters(recurse=False), None) is not None]
        return hooked([m.register_forward_hook(note(n)) for n, m in owners])

    def tolerance(self, found: Found) -> float | None:
        """How much, relative to the largest output, may differ here; the weights are used up. None: nothing is told.

        Statistics of a small batch, and signs of what is nearly zero, multiply rounding errors: by how much is measured
        with weights that are off by as little.
        """
        assert found.zeroed is not None
        size = 1e-15 if self._double else 1e-7
        with torch.no_grad():
            for number, tensor in enumerate((*self._model.parameters(), *self._model.buffers())):
                if isinstance(tensor, Streamed):
                    tensor.values = partial(_nudged_now, tensor.values, size, number)
                elif tensor.is_floating_point() and tensor.layout == torch.strided:
                    _nudge(tensor, size, number)
        nudged = self.at(found.setting).zeroed
        off, scale = isolated.compare(nudged, list(found.zeroed))
        limit = max(TOLERANCE[self._double], 1000 * off / max(scale, 1e-6))
        return limit if limit <= _LOOSEST else None


def _nudge(tensor: Tensor, size: float, seed: int) -> Tensor:
    noise = oracle.drawn(tuple(tensor.shape), -1, 1, seed).to(tensor.device)
    return tensor.add_(tensor.abs().nan_to_num_(posinf=0.0).add_(1).mul_(noise), alpha=size)


def _nudged_now(values: Callable[[], Tensor], size: float, seed: int) -> Tensor:
    return _nudge(values(), size, seed)


class _Reads(DispatchMode):
    """Which operations read these parameters."""

    def __init__(self, model: nn.Module, parameters: Collection[str]) -> None:
        super().__init__()
        self._keys = {id(p): k for k, p in model.named_parameters() if k in parameters}
        self.names: dict[str, set[str]] = {}

    def called(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for leaf in tree_leaves(args):
            if id(leaf) in self._keys:
                self.names.setdefault(self._keys[id(leaf)], set()).add(func.overloadpacket.__name__)
        return func(*args, **kwargs)


class Live:
    """The pruned network in memory; ``runs``: its code holds no stale numbers."""

    def __init__(self, model: nn.Module, graph: ChannelGraph, kept: Kept, double: bool, runs: bool) -> None:
        self.model, self._graph, self._kept = model, graph, kept
        self.double, self.runs = double, runs

    def outputs(self, setting: Setting) -> Outputs | None:
        """What it computes here; None where numbers in its code would have to be put right, which needs the example."""
        if not self.runs and not setting.usual:
            return None
        with nullcontext() if not setting.training else suppress(SecateurError):
            around = nullcontext if self.runs else lambda m: corrected(m, self._graph, self._kept, setting.example)
            return outputs_of(self.model, setting.inputs, self.double, around, setting.training)
        return None
