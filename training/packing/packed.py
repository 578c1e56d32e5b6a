"""From a network with binary layers to the same with packed ones: its file's text and its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ...pruners.errors import UnsuitedError
from .found import BinaryLayer, Form, Found, find
from .norms import foldable, gain_and_shift
from .text import can_drop_norms, packed_text, refusal


@dataclass(frozen=True)
class Packed:
    """``text``: of the file. ``folded``: binary layer -> the batch norm that it holds. ``found``: what is packed."""

    text: str
    state: Mapping[str, Tensor] = field(repr=False)
    found: Found
    folded: Mapping[str, str]


def find_binary(model: nn.Module, inputs: Any, name: str, kind: str = "") -> Found:
    """The layers with weights of one bit. UsageError, in one line, where there are none."""
    found = find(model, inputs)
    if found.layers:
        return found
    what = f"{name} has no layers with weights of one bit"
    if found.others:
        first, reason = next(iter(found.others.items()))
        more = f" (and {len(found.others) - 1} more)" if len(found.others) > 1 else ""
        what += f": {first}{more} is {reason}"
    elif kind:
        what += f": it is of kind {kind}"
    raise UnsuitedError(
        f"{what}; kinds that can be packed are BinaryConnect, BinaryNet, BWN, XnorNet, IRNet, IENet and DoReFa with "
        "weight_bits=1"
    )


def pack(model: nn.Module, text: str, found: Found, inputs: Any) -> Packed:
    """The packed form of a network whose file has this text. The model is not changed."""
    layers, others = dict(found.layers), dict(found.others)
    for name in list(layers):
        cls = type(model.get_submodule(name)).__name__
        if reason := refusal(text, cls):
            others[name] = f"{cls}: {reason}"
            del layers[name]
    if not layers:
        name, reason = next(iter(others.items()))
        raise UnsuitedError(f"nothing can be packed: {name} is {reason}")
    root = type(model).__name__
    exact = [n for n, layer in layers.items() if layer.form.inputs != "numbers"]
    folded = foldable(model, exact, inputs) if can_drop_norms(text, root) else {}
    forms: dict[str, Form] = {type(model.get_submodule(n)).__name__: layer.form for n, layer in layers.items()}
    told = f"Packed:   the weights of {len(layers)} layers are bits; for inference on a CPU or a GPU, not for training"
    written = packed_text(text, root, forms, list(folded.values()), told)
    return Packed(written, packed_state(model, layers, folded), Found(layers, others), folded)


def packed_state(model: nn.Module, layers: Mapping[str, BinaryLayer], folded: Mapping[str, str]) -> dict[str, Tensor]:
    """The state_dict of the packed network: what the file's layers hold, and all else as it was."""
    state: dict[str, Tensor] = {}
    gone = (*layers, *folded.values())
    for key, tensor in model.state_dict().items():
        owner = key.rpartition(".")[0]
        if owner in layers and f"{owner}.bits" not in state:
            norm = model.get_submodule(folded[owner]) if owner in folded else None
            state |= {f"{owner}.{k}": v for k, v in layer_state(layers[owner], norm).items()}
        if owner not in gone:
            state[key] = tensor
    return state


@torch.no_grad()
def layer_state(layer: BinaryLayer, norm: nn.Module | None = None) -> dict[str, Tensor]:
    """What a packed layer holds. ``norm``: a batch norm that reads its output, and becomes part of it."""
    scale, offset = layer.scale, layer.bias
    if norm is not None:
        gain, shift = gain_and_shift(norm)
        scale, offset = scale * gain, offset * gain + shift
    signs = layer.signs
    rows = signs.permute(0, 2, 3, 1).flatten(1) if signs.ndim == 4 else signs
    state = {"bits": bits_of(rows), "scale": scale.contiguous(), "offset": offset.clone()}
    return state if layer.shifts is None else {**state, "shifts": layer.shifts}


def bits_of(rows: Tensor) -> Tensor:
    """Each row of booleans as bytes: bit b of byte j is column 8 j + b."""
    missing = -rows.shape[1] % 8
    filled = torch.nn.functional.pad(rows.to(torch.uint8), (0, missing)).view(len(rows), -1, 8)
    return filled.bitwise_left_shift(torch.arange(8, dtype=torch.uint8)).sum(-1, dtype=torch.uint8)
