"""Accuracy and size before and after each quantization: forms of a network, and the table of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ...pruners.costs import stored_tensors
from ...pruners.errors import OutOfMemory, UsageError
from ...pruners.run import described
from .levels import sqnr_of
from .post_training import (
    SCOPES,
    Half,
    Scope,
    require_finite,
    to_fixed_point,
    to_int8,
    weights_of,
)

_EXPONENT_BYTES = 1  # 2^-128 to 2^127 is all there is among 32-bit floats but the very smallest


@dataclass(frozen=True)
class Quantized:
    """A network as it runs in a form. ``size_bytes``: what its numbers take, closely packed."""

    network: nn.Module
    size_bytes: int
    sqnr: float | None = None
    exponents: Mapping[str, tuple[int, ...]] | None = None


@dataclass(frozen=True)
class Form:
    """One way to keep a network; ``bits`` and ``scope`` belong to fixed point."""

    kind: Literal["float32", "half", "fixed", "int8"]
    bits: int = 0
    scope: Scope = "layer"

    @property
    def name(self) -> str:
        return f"fixed point, {self.bits} bits per {self.scope}" if self.kind == "fixed" else _NAMES[self.kind]

    def of(self, network: nn.Module, batches: Sequence[Any] = ()) -> Quantized:
        """The network in this form; ``batches`` are looked at for int8. UsageError, or torch's own error."""
        if self.kind == "half":
            half = Half(network)
            pairs = list(zip(_weights(network), _weights(half.network), strict=True))
            noise = sqnr_of(pairs) if pairs else None
            return Quantized(half, packed_size(half.network), noise)
        if self.kind == "fixed":
            found = to_fixed_point(network, self.bits, self.scope)
            size = packed_size(found.network, self.bits, found.exponents) + _EXPONENT_BYTES * found.scales
            return Quantized(found.network, size, found.sqnr, found.exponents)
        if self.kind == "int8":
            made = to_int8(network, batches)
            return Quantized(made, _int8_size(made.network.state_dict().values()))
        require_finite(network)
        return Quantized(network, packed_size(network))


_NAMES = {"float32": "float32", "half": "half", "int8": "int8 static"}
FLOAT32 = Form("float32")


def forms(bits: Iterable[int], scopes: Iterable[Scope] = SCOPES, int8: bool = True) -> list[Form]:
    """All forms, the one before quantization first."""
    scopes = tuple(scopes)
    fixed = [Form("fixed", n, scope) for n in bits for scope in scopes]
    return [FLOAT32, Form("half"), *fixed, *([Form("int8")] if int8 else [])]


@dataclass(frozen=True)
class Row:
    """One line of the table. ``accuracy``: what ``evaluate`` measured. ``reason``: why there is nothing to measure."""

    form: Form
    accuracy: float | None = None
    size_bytes: int | None = None
    sqnr: float | None = None
    reason: str = ""

    @property
    def name(self) -> str:
        return self.form.name


def measured(
    form: Form,
    network: nn.Module,
    evaluate: Callable[[nn.Module], float],
    batches: Sequence[Any] = (),
    describe: Callable[[Exception], str] = described,
) -> Row:
    """The row of a form. What can't be had of this network gives a row that says why, but for the network itself."""
    if form == FLOAT32:
        return Row(form, evaluate(form.of(network).network), packed_size(network))
    try:
        made = form.of(network, batches)
        return Row(form, evaluate(made.network), made.size_bytes, made.sqnr)
    except (MemoryError, OutOfMemory, torch.OutOfMemoryError):
        raise  # nothing of the form's
    except UsageError as error:
        return Row(form, reason=str(error))
    except Exception as error:  # the network's own code, or torch's, in a precision it was not written for
        return Row(form, reason=describe(error))


def table(
    network: nn.Module,
    evaluate: Callable[[nn.Module], float],
    batches: Iterable[Any] = (),
    bits: Iterable[int] = (8, 4),
) -> list[Row]:
    """Accuracy and size before and after each quantization. ``evaluate`` takes a network on the CPU."""
    batches = list(batches)
    return [measured(form, network, evaluate, batches) for form in forms(bits, int8=bool(batches))]


def rendered(rows: Iterable[Row]) -> str:
    """The table as Markdown."""
    lines = ["| weights | accuracy | size (KB) | SQNR (dB) |", "|---|---|---|---|"]
    for row in rows:
        if row.accuracy is None or row.size_bytes is None:
            lines.append(f"| {row.name} | {row.reason} | | |")
            continue
        noise = "" if row.sqnr is None else f"{row.sqnr:.1f}"
        lines.append(f"| {row.name} | {row.accuracy:.2%} | {row.size_bytes / 1000:.1f} | {noise} |")
    return "\n".join(lines) + "\n"


def packed_size(network: nn.Module, bits: int = 0, fixed: Collection[str] = ()) -> int:
    """Bytes that the numbers of a state_dict take, shared ones once: those of the ``fixed`` keys with so many ``bits``,
    weights of layers of few bits in theirs, all others as they are."""
    stored = stored_tensors(network)
    tensors = {id(t): (k, t) for k, t in network.state_dict(keep_vars=True).items() if isinstance(t, Tensor)}
    size = 0
    for key, tensor in tensors.values():
        if key in fixed:
            size += math.ceil(tensor.numel() * bits / 8)
        else:
            size += math.ceil(stored[key].bits_of(tensor.shape) / 8) if stored[key].is_parameter else tensor.nbytes
    return size


def _int8_size(values: Iterable[Any]) -> int:
    """What torch keeps of a network of 8-bit integers: they, a scale and a zero point for each output, biases."""
    size = 0
    for value in values:
        if isinstance(value, (tuple, list)):
            size += _int8_size(value)
        elif isinstance(value, Tensor):
            size += value.numel() * value.element_size()
            if value.is_quantized and value.qscheme() == torch.per_channel_affine:
                size += value.q_per_channel_scales().nbytes + value.q_per_channel_zero_points().nbytes
    return size


def _weights(network: nn.Module) -> list[Tensor]:
    """Those that fixed point overwrites, so that one SQNR may be held against another."""
    return [tensor for tensor, _ in weights_of(network).tensors.values()]
