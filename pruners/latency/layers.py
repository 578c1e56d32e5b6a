"""The layers of a network as things to be timed: which axes of theirs shrink, and one cut to a given size.

A class of layers takes part when a rule says which shape it reads (``reads.register``); its own tensors say the rest.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor, nn

from ..costs import Allowance
from ..graph import ChannelGraph
from ..run import BatchNormBase, hooked
from ..slicing import resize
from .timing import Run

Shape = tuple[int, ...]
_FRACTIONS = (0.9, 0.78, 0.53, 0.28, 0.14)
"""None that comes to a multiple of 16 by itself: such sizes are faster than those around them on many processors, and
only plans made with ``round_to`` have them."""


@singledispatch
def reads(layer: Any, shape: Shape) -> Shape | None:
    """The shape of what this layer reads where the whole one read ``shape``; None for layers without a rule."""
    return None


@reads.register(nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)
def read_by_convolution(layer: Any, shape: Shape) -> Shape:
    """Channels stand before the places that the kernel moves over."""
    axis = len(shape) - len(layer.kernel_size) - 1
    return (*shape[:axis], layer.in_channels, *shape[axis + 1 :])


@reads.register(nn.Linear)
def read_by_linear(layer: Any, shape: Shape) -> Shape:
    """Features are last."""
    return (*shape[:-1], layer.in_features)


@reads.register(BatchNormBase)
def read_by_batch_norm(layer: Any, shape: Shape) -> Shape:
    """Channels come after the batch."""
    return (shape[0], layer.num_features, *shape[2:])


@reads.register(nn.GroupNorm)
def read_by_group_norm(layer: Any, shape: Shape) -> Shape:
    """Channels come after the batch."""
    return (shape[0], layer.num_channels, *shape[2:])


@reads.register(nn.LayerNorm | nn.RMSNorm)
def read_by_layer_norm(layer: Any, shape: Shape) -> Shape:
    """The last axes are normalised."""
    return (*shape[: len(shape) - len(layer.normalized_shape)], *layer.normalized_shape)


def is_timed(layer: nn.Module) -> bool:
    """Whether a layer has a rule and tensors of its own; without any it doesn't say how wide it is."""
    own = any(True for _ in (*layer.parameters(), *layer.buffers()))
    return own and reads.dispatch(type(layer)) is not reads.dispatch(object)


@dataclass(frozen=True)
class Axis:
    """One axis that shrinks: its whole size, what goes with a group of each width, and the sizes that are measured."""

    size: int
    per_group: tuple[tuple[str, float], ...]
    measured: tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """One layer as it is called: ``axes`` shrink (none, one or two), and ``places`` says which tensors have them."""

    path: str
    module: nn.Module
    shape: Shape
    dtype: torch.dtype
    axes: tuple[Axis, ...]
    places: tuple[tuple[tuple[str, int], ...], ...]
    times: int = 1

    def cut(self, sizes: Sequence[int]) -> Run:
        """The layer with its axes at these sizes, ready to run on an input of noise."""
        layer = self.module
        tensors = dict([*layer.named_parameters(), *layer.named_buffers()])
        wanted = {name: list(t.shape) for name, t in tensors.items()}
        for size, places in zip(sizes, self.places, strict=True):
            for name, dim in places:
                wanted[name][dim] = size
        small = copy.deepcopy(layer, {id(t): _part(t, wanted[n]) for n, t in tensors.items()}).eval()
        for module in small.modules():
            resize(module)
        shape = reads(small, self.shape)
        assert shape is not None
        noise = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(self.dtype)
        return Run(_facts(small, shape, self.dtype), small, (noise,))


def layers_of(
    model: nn.Module, graph: ChannelGraph, allowance: Allowance, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[Layer]:
    """All calls of layers with a rule in one pass; a layer inside another one is part of that."""
    found: dict[tuple[str, Shape], Layer] = {}
    for path, shape, dtype in _calls(model, args, kwargs):
        module = model.get_submodule(path)
        known = found.get((path, shape))
        if known is None:
            axes = _axes(path, module, graph, allowance)
            if len(axes) > 2:
                continue
            found[path, shape] = Layer(path, module, shape, dtype, tuple(axes), tuple(axes.values()))
        else:
            found[path, shape] = Layer(path, module, shape, dtype, known.axes, known.places, known.times + 1)
    return list(found.values())


def _calls(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[tuple[str, Shape, torch.dtype]]:  # fmt: skip
    calls: list[tuple[str, Shape, torch.dtype]] = []
    inside: list[str] = []

    def enter(path: str, inputs: tuple[Any, ...]) -> None:
        if not inside and len(inputs) == 1 and isinstance(inputs[0], Tensor):
            calls.append((path, tuple(inputs[0].shape), inputs[0].dtype))
        inside.append(path)

    handles = []
    for path, module in model.named_modules():
        if is_timed(module):
            handles.append(module.register_forward_pre_hook(lambda m, i, p=path: enter(p, i)))
            handles.append(module.register_forward_hook(lambda m, i, o: inside.pop() and None))
    with hooked(handles), torch.no_grad():
        model(*args, **kwargs)
    return calls


def _axes(
    path: str, module: nn.Module, graph: ChannelGraph, allowance: Allowance
) -> dict[Axis, tuple[tuple[str, int], ...]]:  # fmt: skip
    """The axes that shrink, each with all places of the layer's tensors that shrink alike."""
    blocks = {w.name: (w.size, w.step) for w in graph.widths}
    found: dict[Axis, tuple[tuple[str, int], ...]] = {}
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        key = graph.key(path, name)
        for dim in range(tensor.ndim if graph.shapes.get(key) == tuple(tensor.shape) else 0):
            size, per_group = allowance.costs.axis(key, dim)
            if per_group:
                axis = Axis(size, tuple(per_group.items()), _grid(size, per_group, blocks, allowance.limits.round_to))
                found[axis] = (*found.get(axis, ()), (name, dim))
    return found


def _grid(
    size: int, per_group: dict[str, float], blocks: dict[str, tuple[int, int]], round_to: int
) -> tuple[int, ...]:  # fmt: skip
    """The sizes to measure, increasing: the least possible one, the whole one, and some between that can be had."""
    steps = [round(n * blocks[name][1]) for name, n in per_group.items()]
    least = size - sum(step * (blocks[n][0] // blocks[n][1] - 1) for n, step in zip(per_group, steps, strict=True))
    step = math.gcd(*steps)
    friendly = math.lcm(step, round_to)
    wanted = {least, size}
    for fraction in _FRACTIONS:
        unit = friendly if size % friendly == 0 else step
        wanted.add(size - round(size * (1 - fraction) / unit) * unit)
    return tuple(sorted(n for n in wanted if least <= n <= size))


def _part(tensor: Tensor, sizes: Sequence[int]) -> Tensor:
    part = tensor.detach()[tuple(slice(n) for n in sizes)].clone()
    return nn.Parameter(part, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else part


def _facts(layer: nn.Module, shape: Shape, dtype: torch.dtype) -> str:
    """All that a layer's time depends on: its class, its plain attributes, its tensors and what it reads."""
    said = []
    for path, module in layer.named_modules():
        plain = {k: v for k, v in sorted(vars(module).items()) if k[0] != "_" and k != "training" and _is_plain(v)}
        said.append(" ".join([path, _class(type(module)), *(f"{k}={v}" for k, v in plain.items())]).strip())
    tensors = [*layer.named_parameters(), *layer.named_buffers()]
    stored = " ".join(f"{name}{_shown(t.shape, t.dtype)}" for name, t in tensors)
    return f"{'; '.join(said)}; {stored}; reads {_shown(shape, dtype)}"


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def _class(kind: type) -> str:
    name = f"{kind.__module__}.{kind.__qualname__}"
    if kind.__module__.startswith("torch."):  # its version is a fact of the machine
        return name
    return f"{name}@{code_of(kind)}"


def code_of(kind: type) -> str:
    """A short hash of the code of a class; of its name alone where there is no source."""
    try:
        text = inspect.getsource(kind)
    except (OSError, TypeError):
        text = kind.__qualname__
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _shown(shape: Sequence[int], dtype: torch.dtype) -> str:
    return f"[{'x'.join(map(str, shape))} {str(dtype).removeprefix('torch.')}]"
