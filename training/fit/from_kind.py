"""Weights of one kind as the beginning of another: Real -> SemiReal -> XnorNet."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ..binarization.kinds import Kind
from .checkpoints import load_weights

LAST_NORM = "last_norm"
"""What networks call the batch norm that follows a binary last layer."""


def load_from_kind(model: nn.Module, state: Mapping[str, Tensor], kind: Kind, origin: object) -> None:
    """Copies the weights of the same network of any kind into a model of this ``kind``.

    What only one of the two kinds has (learned scales, shifts, the norm after a binary last layer) starts afresh or
    is left out; all else must fit. Raises CheckpointError.
    """
    own = model.state_dict()
    common = {key: value for key, value in state.items() if key in own or not _special(key, model)}
    fresh = {key: value for key, value in own.items() if key not in state and _special(key, model)}
    load_weights(model, {**common, **fresh}, origin)
    if fresh:
        kind.start(model)


def _special(key: str, model: nn.Module) -> bool:
    """Does the entry belong to one kind only?"""
    path, _, name = key.rpartition(".")
    if LAST_NORM in path.split("."):
        return True
    modules = dict(model.named_modules())
    return name not in ("weight", "bias") and isinstance(modules.get(path), (nn.Conv2d, nn.Linear))
