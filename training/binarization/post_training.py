"""Quantization after training: half precision, fixed point chosen by its signal to noise, 8-bit integers."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from ...pruners.costs import is_table, stored_tensors
from ...pruners.errors import NeedsDataError, NotFiniteError, OptionError, UnsuitedError
from .levels import best_exponent, best_exponents, fixed_point, sqnr_of

Scope = Literal["net", "layer", "kernel"]
SCOPES: tuple[Scope, ...] = ("net", "layer", "kernel")
FEWEST, MOST = 2, 16  # bits that are tried

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_WEIGHTS: tuple[tuple[tuple[type[nn.Module], ...], tuple[str, ...]], ...] = (
    ((nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED, nn.Linear, nn.Embedding), ("weight",)),
    ((nn.MultiheadAttention,), ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")),
)


class Half(nn.Module):
    """A network in 16-bit floats with the same interface: it takes and gives 32-bit floats."""

    def __init__(self, network: nn.Module) -> None:
        """UsageError if a number is not finite, or becomes so in 16 bits."""
        super().__init__()
        require_finite(network)
        self.network = copy.deepcopy(network).half()
        if key := _not_finite(self.network):
            raise UnsuitedError(f"{key} holds numbers too large for 16 bits (over {torch.finfo(torch.half).max:.0f})")

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.half()).float()


@dataclass(frozen=True)
class FixedPoint:
    """A network whose weights are fixed-point numbers, and how well they hold what was there.

    ``exponents``: state_dict key -> the exponent of each output's lowest bit (one number for a whole tensor); weights
    that several layers share stand there under all their keys.
    ``scales``: how many exponents there are to keep. ``sqnr``: signal to quantization noise over all weights, in dB.
    """

    network: nn.Module
    bits: int
    scales: int
    exponents: Mapping[str, tuple[int, ...]]
    sqnr: float


@dataclass(frozen=True)
class Weights:
    """What is quantized of a network, and what is not: keys and names of layers.

    ``tensors``: key -> the weight, with the layer it belongs to; shared ones once. ``shared``: key -> the key in
    ``tensors`` under which the same weight stands. ``few_bits``: layers that quantize their weights themselves, of
    which only latent ones are at hand. ``computed``: layers whose weight is computed from others (``parametrize``).
    ``others``: parameters of several axes that belong to no layer that is known. ``own``: classes other than torch's
    among the layers that are quantized.
    """

    tensors: Mapping[str, tuple[Tensor, nn.Module]]
    shared: Mapping[str, str]
    few_bits: tuple[str, ...]
    computed: tuple[str, ...]
    others: tuple[str, ...]
    own: tuple[str, ...]


def weights_of(network: nn.Module) -> Weights:
    """Weights of convolutions (transposed ones, too), linear layers, embeddings and ``nn.MultiheadAttention``."""
    stored = stored_tensors(network)
    tensors: dict[str, tuple[Tensor, nn.Module]] = {}
    shared: dict[str, str] = {}
    seen: dict[int, str] = {}
    few, computed = [], []
    for key, layer, name in _layers(network):
        weight = layer._parameters.get(name)
        if weight is None:
            computed += [_layer_of(key)] if name == "weight" else []
        elif stored[key].bits < 8 * weight.element_size():
            few.append(key)
        elif id(weight) in seen:
            shared[key] = seen[id(weight)]
        else:
            seen[id(weight)] = key
            tensors[key] = weight.data, layer
    known = {*tensors, *shared, *few}
    others = [k for k, p in network.named_parameters() if k not in known and is_table(p.shape)]
    others = [k for k in others if not any(k.startswith(f"{name}.") for name in computed)]
    classes = dict.fromkeys(type(layer) for _, layer in tensors.values())
    own = tuple(kind.__name__ for kind in classes if not kind.__module__.startswith("torch."))
    return Weights(tensors, shared, tuple(map(_layer_of, few)), tuple(computed), tuple(others), own)


def _layer_of(key: str) -> str:
    return key.rpartition(".")[0] or key


def _layers(network: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """The key of each weight there may be, its layer, and its name there."""
    for prefix, layer in network.named_modules(remove_duplicate=False):
        for kinds, names in _WEIGHTS:
            if isinstance(layer, kinds):
                yield from ((f"{prefix}.{name}".lstrip("."), layer, name) for name in names)


def require_finite(network: nn.Module) -> None:
    """UsageError that names a tensor which holds NaN or infinite numbers, if there is one."""
    if key := _not_finite(network):
        raise NotFiniteError(f"this network can't be quantized: {key} holds NaN or infinite values; train it again")


def _not_finite(network: nn.Module) -> str:
    state = network.state_dict().items()
    floats = ((k, v) for k, v in state if isinstance(v, Tensor) and v.is_floating_point())
    return next((k for k, v in floats if not bool(v.isfinite().all())), "")


@torch.no_grad()
def to_fixed_point(network: nn.Module, bits: int, scope: Scope = "layer") -> FixedPoint:
    """A copy of the network with the weights of its layers overwritten; biases, norms and the like stay.

    ``scope``: what shares an exponent, the one with the highest SQNR: the whole net, a layer, or each kernel (the
    weights of one output). Layers that quantize their weights themselves stay: fixed point of latent weights, of which
    only signs count, would say nothing. ``weights_of`` tells what stays.
    """
    if not 2 <= bits <= 32:
        raise OptionError(f"fixed point has 2 to 32 bits, not {bits}")
    require_finite(network)
    made = copy.deepcopy(network)
    weights = weights_of(made)
    if not weights.tensors:
        raise UnsuitedError("this network has no layer with real weights to quantize")
    before = [tensor for tensor, _ in weights_of(network).tensors.values()]
    together = best_exponent(torch.cat([t.flatten() for t in before]), bits) if scope == "net" else None
    exponents = {}
    for key, (tensor, layer) in weights.tensors.items():
        outputs = _by_output(tensor, layer)
        rows = outputs.flatten(0, 1).flatten(1) if scope == "kernel" else outputs.reshape(1, -1)
        found = best_exponents(rows, bits) if together is None else [together]
        made_rows = [fixed_point(row.double(), bits, e) for row, e in zip(rows, found, strict=True)]
        outputs.copy_(torch.stack(made_rows).view(outputs.shape))
        exponents[key] = tuple(found)
    scales = 1 if scope == "net" else sum(map(len, exponents.values()))
    exponents |= {key: exponents[other] for key, other in weights.shared.items()}
    after = [tensor for tensor, _ in weights.tensors.values()]
    return FixedPoint(made, bits, scales, exponents, sqnr_of(zip(before, after, strict=True)))


def _by_output(weight: Tensor, layer: nn.Module) -> Tensor:
    """A view with the outputs on its first two axes: (groups, outputs of a group, ...)."""
    if isinstance(layer, _TRANSPOSED):  # (inputs, outputs of a group, ...)
        return weight.unflatten(0, (layer.groups, -1)).transpose(1, 2)
    return weight.unsqueeze(0)


def enough_bits(
    network: nn.Module, evaluate: Callable[[nn.Module], float], largest_loss: float, scope: Scope = "layer"
) -> FixedPoint | None:
    """With the fewest bits (2 to 16) with which the accuracy falls by at most ``largest_loss``; None if there are
    none, or nothing that fixed point overwrites."""
    if not weights_of(network).tensors:
        return None
    before = evaluate(network)
    for bits in range(FEWEST, MOST + 1):
        found = to_fixed_point(network, bits, scope)
        if within(before, evaluate(found.network), largest_loss):
            return found
    return None


def within(before: float, after: float, largest_loss: float) -> bool:
    """Has the accuracy fallen by no more than that? Shares of images are exact to much less than 1e-9."""
    return before - after <= largest_loss + 1e-9


class Int8(nn.Module):
    """A network of 8-bit integers, as torch's graph of it, with the same interface. It runs on the CPU."""

    def __init__(self, network: GraphModule) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of numbers that may get worse, which accuracy tells
            return self.network.forward(x)  # called as a module, a graph prints what goes wrong before it raises


def to_int8(network: nn.Module, batches: Iterable[Any]) -> Int8:
    """Static quantization to 8-bit integers with the ranges seen on ``batches`` (images, or tuples that begin with
    them), by torch's own FX quantization, on the CPU. UsageError where torch has none any more: it is deprecated in
    favour of the package torchao."""
    require_finite(network)
    if few := weights_of(network).few_bits:
        raise UnsuitedError(f"layers that quantize their weights themselves have no 8-bit form: {few[0]}")
    images = [(b[0] if isinstance(b, (tuple, list)) else b).cpu() for b in batches]
    if not images:
        raise NeedsDataError("quantizing to 8-bit integers looks at images: give at least one batch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that this will move to torchao
        try:
            from torch.ao.quantization import get_default_qconfig_mapping
            from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx
        except ImportError:
            missing = f"torch {torch.__version__} has no FX quantization any more, it moved to the package torchao"
            raise NeedsDataError(missing) from None
        mapping = get_default_qconfig_mapping(torch.backends.quantized.engine)
        prepared = prepare_fx(copy.deepcopy(network).cpu().eval(), mapping, images[0])
        with torch.no_grad():
            for batch in images:
                prepared.forward(batch)
        converted = convert_fx(prepared)
    _views_as_reshapes(converted)
    return Int8(converted)


def _views_as_reshapes(graph: GraphModule) -> None:
    """Layers of integers return channels last in memory, of which ``x.view(n, -1)``, right for floats, is no view."""
    for node in graph.graph.nodes:
        if (
            node.op == "call_method"
            and node.target == "view"
            and not any(isinstance(a, torch.dtype) for a in node.args)
        ):
            node.target = "reshape"
    graph.recompile()
