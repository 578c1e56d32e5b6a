"""Checkpoints: plain tensors and numbers, written at once or not at all, read without running anything."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...pruners.errors import CheckpointError, NotFiniteError, OutputError, WeightsMismatchError, some
from ...pruners.outputs import replaced
from ...pruners.saving import save
from .reading import read
from .weights_inside import COUNT, KNOWN, optimizer_inside, weights_inside

State = dict[str, Tensor]


class ShapeError(WeightsMismatchError):
    """A tensor has another shape in the file, ``there``, than in the network, ``here``."""

    def __init__(self, message: str, there: Sequence[int], here: Sequence[int]) -> None:
        super().__init__(message)
        self.there, self.here = tuple(there), tuple(here)


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds: the weights, and for a training checkpoint what is needed to go on.

    ``training`` is empty for bare weights; ``optimizer`` is the optimizer's state_dict, if there is one; ``told``:
    where the weights were found, if that is worth a line.
    """

    model: State
    optimizer: Mapping[str, Any] | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    told: str = ""


def save_atomically(content: object, path: Path) -> None:
    """``torch.save`` beside ``path``, flushed to disk, then renamed: readers see the old file or the new one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path) as file:
            save(content, file)
    except OSError as error:
        raise OutputError(f"{path} can't be written: {error.strerror or error}") from None


def check_writable(path: Path) -> None:
    """OutputError, before anything slow, if ``save_atomically`` could not write there."""
    if path.is_dir():
        raise OutputError(f"{path} is a folder: name a file in it, such as {path / 'weights.pt'}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OutputError(f"{path} can't be written: {error.strerror}; choose another file with -o") from None


def beside(weights: Path, ending: str) -> Path:
    """``NAME.last.pt`` beside ``NAME.pt``: another file of the training that made the weights."""
    name = weights.stem if weights.suffix in (".pt", ".pth") else weights.name
    return weights.with_name(name + ending)


def save_weights(model: nn.Module, path: Path, network: Mapping[str, Any] | None = None) -> None:
    """The state_dict alone, on the CPU: what ``load_checkpoint`` and plain PyTorch read anywhere.

    ``network`` says of which kind the network is; then the state_dict is the entry ``"state_dict"`` beside it.
    """
    state = {key: value.detach().cpu() for key, value in model.state_dict().items()}
    save_atomically(state if network is None else {"state_dict": state, "network": dict(network)}, path)


def load_checkpoint(
    path: Path, network: nn.Module | None = None, averaged: bool = False, allowed: Sequence[str] = ()
) -> Checkpoint:
    """Reads a bare state_dict, ``{"state_dict": ...}`` or a training checkpoint (``{"model": ...}``).

    With the ``network`` its weights are found wherever they lie in the file, whatever their names begin with: those
    that were trained, or with ``averaged`` their moving average (EMA); without a network, a common prefix ``module.``
    (from ``nn.DataParallel``) is taken off. Only plain tensors, containers and numbers are read
    (``weights_only=True``), and beside them what is of the ``allowed`` classes (see ``read``). Raises CheckpointError.
    """
    content = read(path, allowed)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a state_dict")
    inside = weights_inside(content, network.state_dict(), path, averaged) if network is not None else None
    state: object = content
    for key in inside.names if inside is not None else (_usual(content),):
        state = state[key] if key else state  # type: ignore[index]
    optimizer = optimizer_inside(content)
    training = {k: v for k, v in content.items() if state is not content and v is not state and v is not optimizer}
    return Checkpoint(
        inside.state if inside is not None else _tensors(state, path), optimizer, training,
        inside.told if inside is not None else "",
    )  # fmt: skip


def _usual(content: Mapping[Any, Any]) -> str:
    """Where weights lie that don't fit, for what is said of them."""
    return next((key for key in KNOWN if isinstance(content.get(key), dict)), "")


def load_weights(model: nn.Module, state: Mapping[str, Tensor], origin: object) -> None:
    """Copies ``state`` into the model; raises CheckpointError if keys, shapes or values don't fit. Old checkpoints lack
    the numbers of batches that batch norms have seen: those stay.

    ``origin`` names the weights in messages (a path).
    """
    expected = model.state_dict()
    lacking = {k: v for k, v in expected.items() if k not in state}
    if all(k.endswith(COUNT) for k in lacking):
        state = {**state, **lacking}
    _same_keys(expected, state, origin)
    for key, value in state.items():
        if value.shape != expected[key].shape:
            raise ShapeError(
                f"{origin} doesn't fit this network: {key} is {_shape(value)} there and "
                f"{_shape(expected[key])} in the network", value.shape, expected[key].shape,
            )  # fmt: skip
        if reason := _unusable(value, expected[key]):
            raise NotFiniteError(f"{origin} can't be used: {key} {reason}")
    model.load_state_dict(state)


def _unusable(value: Tensor, expected: Tensor) -> str:
    """Why the tensor can't take the place of the network's; nothing where it can."""
    dtype = str(value.dtype).removeprefix("torch.")
    if value.is_quantized:
        return f"is quantized ({dtype}); save the weights that were there before, or value.dequantize()"
    if value.layout != torch.strided:
        return "is sparse; save value.to_dense() in its place"
    if value.is_meta:
        return "lies on the meta device and holds no values; save the network once it has some"
    if _sort(value) > _sort(expected) or (expected.is_floating_point() and not value.is_floating_point()):
        ours = str(expected.dtype).removeprefix("torch.")
        return f"is {dtype} there and {ours} in the network, which isn't the same numbers"
    if dtype.startswith("float8"):
        value = value.float()
    own = expected.to(value.device)  # a mask's infinities are the network's own
    fine = torch.isfinite(value) | (value == own) | (value.isnan() & own.isnan())
    return "" if bool(fine.all()) else "holds NaN or infinite values; train it again"


def _sort(value: Tensor) -> int:
    return 2 if value.is_complex() else int(value.is_floating_point())


def _tensors(state: object, path: Path) -> State:
    if not isinstance(state, dict) or not state:
        raise CheckpointError(f"{path} holds no weights")
    if {"state", "param_groups"} <= state.keys() or optimizer_inside(state) is not None:
        raise CheckpointError(f"{path} holds the state of an optimizer and no weights: name the file that holds those")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(
                f"{path} is not a state_dict: {key!r} is a {type(value).__name__}; "
                f"save the state_dict with torch.save(model.state_dict(), {path.name!r})"
            )
    prefix = "module." if all(key.startswith("module.") for key in state) else ""
    return {key.removeprefix(prefix): value for key, value in state.items()}


def _same_keys(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], origin: object) -> None:
    missing = [key for key in expected if key not in found]
    unexpected = [key for key in found if key not in expected]
    if missing or unexpected:
        parts = [f"it lacks {some(missing)}"] * bool(missing)
        parts += [f"the network has no {some(unexpected)}"] * bool(unexpected)
        raise WeightsMismatchError(f"{origin} doesn't fit this network: {'; '.join(parts)}")


def _shape(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "a single number"
