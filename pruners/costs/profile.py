"""Costs counted on a live model while it runs, layer by layer: the independent check of ``costs.predict``."""

from __future__ import annotations

import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakTensorKeyDictionary

from ..run import Modules, as_it_was, hooked, isolated, tensors_in, tree_leaves
from .model import Costs, is_table, stored_tensors
from .precision import input_bits


class _LayerCounter(isolated.MacCounter):
    """Counts the products of every module that is running, and sees which parameters they read."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.modules = Modules(model)
        self.of_layers: Counter[str] = Counter()
        self.read: set[str] = set()  # the parameters that were multiplied, as they are or in what is made of them
        self._made_of = WeakTensorKeyDictionary()
        for name, parameter in model.named_parameters(remove_duplicate=False):
            self._made_of[parameter] = {*self._made_of.get(parameter, ()), name}

    def saw(self, func: Any, operands: tuple[tuple[Any, ...], dict[str, Any]], out: Any, macs: int) -> None:
        super().saw(func, operands, out, macs)
        made_of = [self._made_of.get(t) for t in tree_leaves(operands) if isinstance(t, torch.Tensor)]
        names = set().union(*(known for known in made_of if known is not None))
        if macs:
            self.of_layers[self.modules.current] += macs
            self.read |= names
        elif None not in made_of or func.overloadpacket.__name__ in {"mul", "mul_"}:  # the input chooses
            for tensor in tensors_in(out):
                self._made_of[tensor] = names


@dataclass(frozen=True)
class ProfileRow:
    """One layer: ``shape`` is its output's, ``ms`` the median time of its calls in one forward pass, children
    included; ``bits`` and ``size_bytes`` are of its own tensors, the first of its parameters in their precision, the
    second of parameters and buffers as a checkpoint holds them.

    ``bops`` are bit operations: MACs times ``weight_bits`` times ``input_bits``, which are 0 where nothing is
    multiplied with weights.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    params: int
    macs: int
    bits: int
    ms: float
    weight_bits: float = 0.0
    input_bits: float = 0.0
    bops: int = 0
    size_bytes: int = 0


def measure(model: nn.Module, example_input: Any) -> Costs:
    """Run one image through the model and count. ``uncounted`` names the layers with a weight of several axes
    that no convolution or matrix product has read.

    ``example_input``: a tensor, a tuple of arguments or a dict of keyword arguments with the batch on the first axis,
    of which only the first image is used. The model is run in eval mode and left as it was.
    """
    counter = _counted(model, example_input)
    uncounted = tuple(
        name or type(model).__name__ for name, module in model.named_modules()
        if (tables := _tables(name, module)) and not tables & counter.read
    )  # fmt: skip
    params, bits = _stored_costs(model)
    tensors = {id(t): t for t in model.state_dict(keep_vars=True).values() if torch.is_tensor(t)}
    size = sum(t.numel() * t.element_size() for t in tensors.values())
    return Costs(sum(params.values()), counter.macs, round(sum(bits.values())), size, uncounted)


def _tables(prefix: str, module: nn.Module) -> set[str]:
    return {name for name, p in module.named_parameters(prefix, recurse=False) if is_table(p.shape)}


def profile(model: nn.Module, example_input: Any, repeats: int = 10) -> list[ProfileRow]:
    """One row per layer that ran (modules without children, with parameters or with products of their own), in the
    order of their first ends.

    Times are medians over ``repeats`` forward passes of one image after a warm-up; on an accelerator it is
    synchronised around every layer.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    started: dict[str, float] = {}
    spent: dict[str, float] = defaultdict(float)
    shapes: dict[str, tuple[int, ...]] = {}
    macs = _counted(model, example_input).of_layers

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    def before(name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        started[name] = now()

    def after(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        spent[name] += now() - started[name]
        shapes.setdefault(name, tuple(output.shape) if torch.is_tensor(output) else ())

    times: dict[str, list[float]] = defaultdict(list)
    with hooked(_hooks(model, macs, before, after)):
        for _ in range(repeats + 1):
            spent.clear()
            _run(model, example_input)
            for name, seconds in spent.items():
                times[name].append(1000 * seconds)
    params, bits = _stored_costs(model)
    layers = dict(model.named_modules())
    precisions = _precisions(model, macs)
    sizes = _sizes(model)
    return [
        ProfileRow(
            n, type(layers[n]).__name__, shapes[n], params[n], macs[n], round(bits[n]), statistics.median(times[n][1:]),
            *precisions[n], round(macs[n] * precisions[n][0] * precisions[n][1]), sizes[n],
        )
        for n in spent
    ]  # fmt: skip


def _counted(model: nn.Module, example_input: Any) -> _LayerCounter:
    """One pass of one image, counted."""
    counter = _LayerCounter(model)
    with isolated.transparent(model), counter.modules.watching(), counter:
        _run(model, example_input)
    return counter


def _precisions(model: nn.Module, macs: Mapping[str, int]) -> dict[str, tuple[float, float]]:
    """Bits of a weight and of an input in the arithmetic of every layer; without a registration, those of a weight are
    32 or what its dtype takes."""
    stored = stored_tensors(model)
    found: dict[str, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    for name, module in model.named_modules(remove_duplicate=False):
        if macs.get(name):
            weight = stored.get(f"{name}.weight" if name else "weight")
            found[name] = (weight.bits if weight is not None else 32.0, input_bits(module))
    return found


def _sizes(model: nn.Module) -> dict[str, int]:
    """Bytes of every module's own parameters and saved buffers; shared ones count where they come first."""
    sizes: dict[str, int] = defaultdict(int)
    seen: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if torch.is_tensor(tensor) and id(tensor) not in seen:
            seen.add(id(tensor))
            sizes[name.rpartition(".")[0]] += tensor.numel() * tensor.element_size()
    return sizes


def _stored_costs(model: nn.Module) -> tuple[dict[str, int], dict[str, float]]:
    """Parameters and bits of every module's own parameters; a tied one counts where it comes first."""
    stored = stored_tensors(model)
    params: dict[str, int] = defaultdict(int)
    bits: dict[str, float] = defaultdict(float)
    for name, parameter in model.named_parameters():
        layer = name.rpartition(".")[0]
        params[layer] += parameter.numel()
        bits[layer] += stored[name].bits_of(parameter.shape)
    return params, bits


def _hooks(
    model: nn.Module, macs: Mapping[str, int], before: Callable[..., None], after: Callable[..., None]
) -> Iterator[RemovableHandle]:
    """Call ``before(name, module, inputs)`` and ``after(name, module, inputs, output)`` around every layer."""
    for name, module in model.named_modules():
        if any(module.children()) and not any(True for _ in module.parameters(recurse=False)) and not macs.get(name):
            continue
        yield module.register_forward_pre_hook(lambda m, i, n=name: before(n, m, i))
        yield module.register_forward_hook(lambda m, i, o, n=name: after(n, m, i, o))


def _run(model: nn.Module, example_input: Any) -> None:
    named = dict(example_input) if isinstance(example_input, Mapping) else {}
    inputs = example_input if isinstance(example_input, tuple) else () if named else (example_input,)
    batch = next((t.shape[0] for t in (*inputs, *named.values()) if torch.is_tensor(t) and t.dim()), 1)

    def first(value: Any) -> Any:
        return value[:1] if torch.is_tensor(value) and value.dim() and value.shape[0] == batch else value

    with as_it_was(model), torch.no_grad():
        model.eval()(*map(first, inputs), **{name: first(value) for name, value in named.items()})
