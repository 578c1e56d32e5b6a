"""Checkpoints: plain tensors and numbers, written at once or not at all, read without running anything."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...pruners.errors import CheckpointError, OutputError
from ...pruners.outputs import replaced
from ...pruners.saving import save

State = dict[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds: the weights, and for a training checkpoint what is needed to go on.

    ``training`` is empty for bare weights; ``optimizer`` is the optimizer's state_dict, if there is one.
    """

    model: State
    optimizer: Mapping[str, Any] | None = None
    training: Mapping[str, Any] = field(default_factory=dict)


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


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a bare state_dict, ``{"state_dict": ...}`` or a training checkpoint (``{"model": ...}``).

    A common prefix ``module.`` (from ``nn.DataParallel``) is taken off. Only plain tensors, containers and
    numbers are read (``weights_only=True``). Raises CheckpointError.
    """
    content = _read(path)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a state_dict")
    state: object = content
    for key in ("model", "state_dict"):
        if isinstance(content.get(key), dict):
            state = content[key]
            break
    optimizer = content.get("optimizer")
    training = {} if state is content else {k: v for k, v in content.items() if v is not state and k != "optimizer"}
    return Checkpoint(_tensors(state, path), optimizer if isinstance(optimizer, dict) else None, training)


def load_weights(model: nn.Module, state: Mapping[str, Tensor], origin: object) -> None:
    """Copies ``state`` into the model; raises CheckpointError if keys, shapes or values don't fit.

    ``origin`` names the weights in messages (a path).
    """
    expected = model.state_dict()
    _same_keys(expected, state, origin)
    for key, value in state.items():
        if value.shape != expected[key].shape:
            raise CheckpointError(
                f"{origin} doesn't fit this network: {key} is {_shape(value)} there and "
                f"{_shape(expected[key])} in the network"
            )
        if not bool(torch.isfinite(value).all()):
            raise CheckpointError(f"{origin} can't be used: {key} holds NaN or infinite values; train it again")
    model.load_state_dict(dict(state))


def _read(path: Path) -> object:
    if not path.exists():
        raise CheckpointError(f"there is no checkpoint {path}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"refused: {path} holds pickled objects, not plain tensors; "
            f"save the state_dict with torch.save(model.state_dict(), {path.name!r})"
        ) from None
    except IsADirectoryError:
        raise CheckpointError(f"{path} is a folder: name the checkpoint file in it") from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        said = str(error).splitlines()[0] if str(error) else "it is empty"
        reason = "it is cut off or damaged" if "zip archive" in said else said
        raise CheckpointError(f"{path} can't be read as a checkpoint: {reason}") from None


def _tensors(state: object, path: Path) -> State:
    if not isinstance(state, dict) or not state:
        raise CheckpointError(f"{path} holds no weights")
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
        parts = [f"it lacks {_some(missing)}"] * bool(missing)
        parts += [f"the network has no {_some(unexpected)}"] * bool(unexpected)
        raise CheckpointError(f"{origin} doesn't fit this network: {'; '.join(parts)}")


def _some(keys: list[str], shown: int = 3) -> str:
    more = f" and {len(keys) - shown} more" if len(keys) > shown else ""
    return ", ".join(keys[:shown]) + more


def _shape(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "a single number"
