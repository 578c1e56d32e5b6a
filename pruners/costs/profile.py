"""Costs counted on a live model while it runs, layer by layer: the independent check of ``costs.predict``."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..run import ConvBase, ConvTransposeBase, as_it_was
from .model import Costs, is_table, stored_tensors
from .precision import input_bits

MacCounter = Callable[[Any, tuple[Any, ...], Any], int]
_COUNTERS: dict[type[nn.Module], MacCounter] = {}


def mac_counter(*layers: type[nn.Module]) -> Callable[[MacCounter], MacCounter]:
    """Register ``(module, inputs, output) -> MACs`` for these classes and their subclasses."""

    def register(count: MacCounter) -> MacCounter:
        _COUNTERS.update(dict.fromkeys(layers, count))
        return count

    return register


@mac_counter(ConvBase)
def conv_macs(module: ConvBase, inputs: tuple[Any, ...], output: torch.Tensor) -> int:
    """Every output element takes in_channels / groups * kernel products."""
    return output.numel() * module.weight[0].numel()


@mac_counter(ConvTransposeBase)
def transposed_conv_macs(module: ConvTransposeBase, inputs: tuple[Any, ...], output: torch.Tensor) -> int:
    """Every input element takes out_channels / groups * kernel products."""
    return int(inputs[0].numel()) * module.weight[0].numel()


@mac_counter(nn.Linear)
def linear_macs(module: nn.Linear, inputs: tuple[Any, ...], output: torch.Tensor) -> int:
    """Every output element takes in_features products."""
    return output.numel() * module.weight.shape[1]


@mac_counter(nn.MultiheadAttention)
def attention_macs(module: nn.MultiheadAttention, inputs: tuple[Any, ...], output: Any) -> int:
    """The four projections of query, key, value and result; the products of activations are not counted."""
    query, key, value = (t.numel() for t in inputs[:3])
    return module.embed_dim * (2 * query + key + value)


def _counter(module: nn.Module) -> MacCounter | None:
    return next((_COUNTERS[kind] for kind in type(module).__mro__ if kind in _COUNTERS), None)


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
    that never ran or whose arithmetic is unknown here (see ``mac_counter``).

    ``example_input``: a tensor, a tuple of arguments or a dict of keyword arguments with the batch on the first axis,
    of which only the first image is used. The model is run in eval mode and left as it was.
    """
    macs: dict[str, int] = defaultdict(int)
    counted: set[str] = set()

    def count(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        counter = _counter(module)
        if counter:
            macs[name] += counter(module, inputs, output)
            counted.update([name, f"{name}.out_proj"] if isinstance(module, nn.MultiheadAttention) else [name])

    with _hooked(model, after=count):
        _run(model, example_input)
    uncounted = tuple(
        name or type(model).__name__ for name, module in model.named_modules()
        if name not in counted and any(is_table(p.shape) for p in module.parameters(recurse=False))
    )  # fmt: skip
    params, bits = _stored_costs(model)
    tensors = {id(t): t for t in model.state_dict(keep_vars=True).values() if torch.is_tensor(t)}
    size = sum(t.numel() * t.element_size() for t in tensors.values())
    return Costs(sum(params.values()), sum(macs.values()), round(sum(bits.values())), size, uncounted)


def profile(model: nn.Module, example_input: Any, repeats: int = 10) -> list[ProfileRow]:
    """One row per layer that ran (modules without children or with parameters of their own), in running order.

    Times are medians over ``repeats`` forward passes of one image after a warm-up; on an accelerator it is
    synchronised around every layer.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    started: dict[str, float] = {}
    spent: dict[str, float] = defaultdict(float)
    shapes: dict[str, tuple[int, ...]] = {}
    macs: dict[str, int] = defaultdict(int)

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    def before(name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        started[name] = now()

    def after(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        spent[name] += now() - started[name]
        shapes.setdefault(name, tuple(output.shape) if torch.is_tensor(output) else ())
        counter = _counter(module)
        macs[name] += counter(module, inputs, output) if counter else 0

    times: dict[str, list[float]] = defaultdict(list)
    with _hooked(model, before, after):
        for _ in range(repeats + 1):
            spent.clear()
            macs.clear()
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


@contextmanager
def _hooked(
    model: nn.Module, before: Callable[..., None] | None = None, after: Callable[..., None] | None = None
) -> Iterator[None]:
    """Call ``before(name, module, inputs)`` and ``after(name, module, inputs, output)`` around every layer."""
    handles = []
    for name, module in model.named_modules():
        if any(module.children()) and not any(True for _ in module.parameters(recurse=False)):
            continue
        if before:
            handles.append(module.register_forward_pre_hook(lambda m, i, n=name: before(n, m, i)))
        if after:
            named = lambda m, i, k, o, n=name: after(n, m, (*i, *k.values()), o)  # noqa: E731
            handles.append(module.register_forward_hook(named, with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _run(model: nn.Module, example_input: Any) -> None:
    named = dict(example_input) if isinstance(example_input, Mapping) else {}
    inputs = example_input if isinstance(example_input, tuple) else () if named else (example_input,)
    batch = next((t.shape[0] for t in (*inputs, *named.values()) if torch.is_tensor(t) and t.dim()), 1)

    def first(value: Any) -> Any:
        return value[:1] if torch.is_tensor(value) and value.dim() and value.shape[0] == batch else value

    with as_it_was(model), torch.no_grad():
        model.eval()(*map(first, inputs), **{name: first(value) for name, value in named.items()})
