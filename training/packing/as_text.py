"""A packed network as lines of text, for hardware and for other programs to read."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...pruners.errors import UnsuitedError
from ...pruners.run import hooked
from .layers import PackedLayer

_MOST = 2**15 - 1


def as_text(model: nn.Module, patterns: Tensor) -> Iterator[tuple[str, str]]:
    """Names of files, and their lines.

    ``LAYER.weights.txt``: a line for each output, its weights (input, row, column) as 1 for +1 and 0 for -1.
    ``LAYER.offsets.txt``: a line for each output, a whole number in 16 bits (two's complement, as hexadecimal digits):
    the sign of what the layer gives is that of the sum of signs and this number. Where the layer's scale is negative,
    weights and offset are those of the negated sum. ``LAYER.scales.txt``: the scales of its views, and what is added.
    Everything else is ``NAME.txt``, a number a line. ``patternN/LAYER.txt``: the signs that the layer gives for the
    N-th pattern, a line for each output. UsageError where there is no packed layer, or sums need more than 16 bits.
    """
    layers = {name: layer for name, layer in model.named_modules() if _is_packed(layer)}
    if not layers:
        raise UnsuitedError("there are no packed layers to write as text")
    for name, layer in layers.items():
        yield from _of_layer(name, layer)
    inside = {f"{name}.{key}" for name, layer in layers.items() for key in layer.state_dict()}
    for key, value in model.state_dict().items():
        if key not in inside:
            yield f"{key}.txt", "".join(f"{number!r}\n" for number in value.flatten().tolist())
    for number, pattern in enumerate(patterns, 1):
        for name, signs in _signs_of(model, layers, pattern):
            yield f"pattern{number}/{name}.txt", signs


def _is_packed(layer: nn.Module) -> bool:
    """Written files carry the classes along, under the same names."""
    return any(cls.__name__ == PackedLayer.__name__ for cls in type(layer).__mro__)


def _of_layer(name: str, layer: Any) -> Iterator[tuple[str, str]]:
    weight = layer.weight(torch.float64).flatten(1)
    plain = layer.inputs == "signs" and layer.views == 1 and not layer.scaled_by_inputs
    if plain:
        scale, offset = layer.scale[0], layer.offset
        if weight.shape[1] > _MOST:
            raise UnsuitedError(f"{name} sums up {weight.shape[1]} signs, which need more than 16 bits")
        negative = scale < 0
        weight = torch.where(negative.view(-1, 1), -weight, weight)
        added = torch.where(scale == 0, torch.where(offset < 0, -torch.inf, torch.inf), offset / scale)
        added = torch.where(negative, -added, added).floor().clamp(-_MOST - 1, _MOST)
        yield f"{name}.offsets.txt", "".join(f"{int(n) & 0xFFFF:04x}\n" for n in added.tolist())
    yield f"{name}.weights.txt", _lines(weight > 0)
    numbers = zip(*layer.scale.tolist(), layer.offset.tolist(), strict=True)
    yield f"{name}.scales.txt", "".join(" ".join(map(repr, row)) + "\n" for row in numbers)


def _signs_of(model: nn.Module, layers: dict[str, Any], pattern: Tensor) -> Iterator[tuple[str, str]]:
    found: dict[str, str] = {}

    def note(_: nn.Module, __: Any, out: Tensor, name: str) -> None:
        found[name] = _lines(out[0].reshape(len(out[0]), -1) >= 0)

    hooks = [layer.register_forward_hook(partial(note, name=name)) for name, layer in layers.items()]
    with hooked(hooks), torch.no_grad():
        model.eval()(pattern.unsqueeze(0))
    yield from found.items()


def _lines(rows: Tensor) -> str:
    return "".join("".join("01"[bit] for bit in row) + "\n" for row in rows.int().tolist())

