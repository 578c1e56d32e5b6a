"""A live network takes over the widths of its sliced copy: the same modules, with other tensors and numbers."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from ..errors import StuckError
from ..run import INTERNAL, gather_weights, same_values

_NUMBERS = (int, float)


@dataclass(frozen=True)
class Narrowing:
    """What becomes another in a network. ``parameters``: the identity of an old parameter -> the new one."""

    model: nn.Module
    tensors: list[tuple[MutableMapping[str, Any], str, torch.Tensor]] = field(default_factory=list)
    attributes: list[tuple[nn.Module, str, Any]] = field(default_factory=list)
    parameters: dict[int, nn.Parameter] = field(default_factory=dict)

    def carry_out(self) -> None:
        """Change the network. Hooks, modes and modules stay; gradients of what was replaced are gone."""
        for table, name, tensor in self.tensors:
            table[name] = tensor
        for module, name, value in self.attributes:
            setattr(module, name, value)
        for module in self.model.modules():
            if isinstance(module, nn.RNNBase):
                gather_weights(module)


def narrowing(model: nn.Module, sliced: nn.Module) -> Narrowing:
    """What a network takes over from its sliced copy, whose tensors are used up. Nothing is changed yet.

    Raises StuckError where a layer would become one of another class.
    """
    found, buffers = Narrowing(model), dict[int, torch.Tensor]()
    for (path, module), (_, other) in zip(model.named_modules(), sliced.named_modules(), strict=True):
        if type(module) is not type(other):
            raise StuckError(
                f"{path}: a {type(module).__name__} without these channels is no {type(module).__name__}: leave it "
                f'whole (skip=["{path}"]), or take prune() after the training'
            )
        for name, old in module._parameters.items():
            new = other._parameters[name]
            if old is not None and new is not None and not _same(old, new):
                if id(old) not in found.parameters:
                    found.parameters[id(old)] = _parameter(new, old)
                found.tensors.append((module._parameters, name, found.parameters[id(old)]))
        for name, tensor in module._buffers.items():
            now = other._buffers[name]
            if tensor is not None and now is not None and not _same(tensor, now):
                found.tensors.append((module._buffers, name, buffers.setdefault(id(tensor), now.to(tensor.device))))
        for name, value in vars(other).items():
            before = vars(module).get(name)
            if name not in INTERNAL and _is_plain(value) and type(value) is type(before) and value != before:
                found.attributes.append((module, name, value))
    return found


def _same(old: torch.Tensor, new: torch.Tensor) -> bool:
    return old.shape == new.shape and same_values(old.detach(), new.detach().to(old.device))


def _parameter(new: torch.Tensor, old: nn.Parameter) -> nn.Parameter:
    made = nn.Parameter(new.detach().to(old.device), old.requires_grad)
    made.__dict__.update(old.__dict__)  # what people note on a parameter, such as that it has no weight decay
    return made


def _is_plain(value: Any) -> bool:
    """Whether it may count channels, and can be compared."""
    return isinstance(value, _NUMBERS) or (
        isinstance(value, (tuple, list)) and all(isinstance(v, _NUMBERS) for v in value)
    )
