"""Quantization after training: half precision, fixed point chosen by its signal to noise, 8-bit integers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pruners.errors import UsageError
from training.binarization.levels import best_exponent, fixed_point, sqnr

Scope = Literal["net", "layer", "kernel"]
SCOPES: tuple[Scope, ...] = ("net", "layer", "kernel")


class Half(nn.Module):
    """A network in 16-bit floats with the same interface: it takes and gives 32-bit floats."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).half()

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.half()).float()


@dataclass(frozen=True)
class FixedPoint:
    """A network whose weights are fixed-point numbers, and how well they hold what was there.

    ``exponents``: state_dict key -> the exponent of each row's lowest bit (one number for a whole tensor).
    ``sqnr``: signal to quantization noise over all weights, in dB.
    """

    network: nn.Module
    bits: int
    exponents: Mapping[str, tuple[int, ...]]
    sqnr: float


def to_fixed_point(network: nn.Module, bits: int, scope: Scope = "layer") -> FixedPoint:
    """A copy of the network with the weights of its convolutions and linear layers overwritten.

    ``scope``: what shares an exponent, the one with the highest SQNR: the whole net, a layer, or each kernel (the
    weights of one output).
    """
    if not 2 <= bits <= 32:
        raise UsageError(f"fixed point has 2 to 32 bits, not {bits}")
    made = copy.deepcopy(network)
    weights = _weights(made)
    if not weights:
        raise UsageError("this network has no convolution and no linear layer to quantize")
    before = {name: weight.clone() for name, weight in weights.items()}
    if scope == "net":
        shared = best_exponent(torch.cat([w.flatten() for w in weights.values()]), bits)
    exponents = {}
    for name, weight in weights.items():
        rows = list(weight) if scope == "kernel" else [weight]
        exponents[name] = tuple(shared if scope == "net" else best_exponent(row, bits) for row in rows)
        for row, exponent in zip(rows, exponents[name], strict=True):
            row.copy_(fixed_point(row, bits, exponent))
    whole = [torch.cat([t.flatten() for t in group.values()]) for group in (before, weights)]
    return FixedPoint(made, bits, exponents, sqnr(*whole))


def enough_bits(
    network: nn.Module, evaluate: Callable[[nn.Module], float], largest_loss: float, scope: Scope = "layer"
) -> FixedPoint:
    """The fewest bits (2 to 16) with which the accuracy falls by at most ``largest_loss``."""
    limit = evaluate(network) - largest_loss
    for bits in range(2, 17):
        found = to_fixed_point(network, bits, scope)
        if evaluate(found.network) >= limit:
            return found
    raise UsageError(f"with 16 bits the accuracy still falls by more than {largest_loss}: keep 32-bit floats")


def to_int8(network: nn.Module, batches: Iterable[Any]) -> nn.Module:
    """Static quantization to 8-bit integers with the ranges seen on ``batches`` (images, or tuples that begin with
    them), by torch's own FX quantization."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that this will move to torchao
        from torch.ao.quantization import get_default_qconfig_mapping
        from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

        images = [b[0] if isinstance(b, (tuple, list)) else b for b in batches]
        if not images:
            raise UsageError("quantizing to 8-bit integers looks at images: give at least one batch")
        mapping = get_default_qconfig_mapping(torch.backends.quantized.engine)
        prepared = prepare_fx(copy.deepcopy(network).cpu().eval(), mapping, images[0])
        with torch.no_grad():
            for batch in images:
                prepared(batch)
        return convert_fx(prepared)


@dataclass(frozen=True)
class Row:
    """One line of the table: ``size_bytes`` is what the weights take, ``accuracy`` what ``evaluate`` measured."""

    name: str
    accuracy: float
    size_bytes: int
    sqnr: float | None = None


def table(
    network: nn.Module,
    evaluate: Callable[[nn.Module], float],
    batches: Iterable[Any] = (),
    bits: Iterable[int] = (8, 4),
) -> list[Row]:
    """Accuracy and size before and after each quantization. ``evaluate`` takes a network on the CPU."""
    batches = list(batches)
    numbers = sum(p.numel() for p in network.parameters())
    weights = sum(w.numel() for w in _weights(network).values())
    rest = 4 * (numbers - weights)
    rows = [Row("float32", evaluate(network), 4 * numbers), Row("half", evaluate(Half(network)), 2 * numbers)]
    for n in bits:
        for scope in SCOPES:
            found = to_fixed_point(network, n, scope)
            size = rest + (weights * n + 7) // 8
            rows.append(Row(f"fixed point, {n} bits per {scope}", evaluate(found.network), size, found.sqnr))
    if batches:
        rows.append(Row("int8 static", evaluate(to_int8(network, batches)), rest + weights))
    return rows


def rendered(rows: Iterable[Row]) -> str:
    """The table as Markdown."""
    lines = ["| weights | accuracy | size (KB) | SQNR (dB) |", "|---|---|---|---|"]
    for row in rows:
        noise = "" if row.sqnr is None else f"{row.sqnr:.1f}"
        lines.append(f"| {row.name} | {row.accuracy:.2%} | {row.size_bytes / 1000:.1f} | {noise} |")
    return "\n".join(lines) + "\n"


def _weights(network: nn.Module) -> dict[str, Tensor]:
    """The weights of convolutions and linear layers by their keys."""
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    layers = ((f"{name}.weight".lstrip("."), m) for name, m in network.named_modules() if isinstance(m, kinds))
    return {key: layer.weight.data for key, layer in layers}
