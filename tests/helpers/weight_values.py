"""A judge that knows nothing of the toolkit: what a pruned network must compute, from the values of its weights alone.

Every value in a tensor of the original is given once, so the values that the pruned network still has say what went.
The original with zeros for the rest, and norms that leave the rest out, computes what the pruned one must.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
DROPOUTS = nn.modules.dropout._DropoutNd


def give_every_value_once(model: nn.Module, seed: int) -> None:
    """Evenly spaced values in random order, of a size that keeps signals alive."""
    dice = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if not tensor.is_floating_point() or not tensor.numel():
                continue
            low, high = _span(name, tensor)
            values = torch.linspace(low, high, tensor.numel() + 1)[1:]
            tensor.copy_(values[torch.randperm(tensor.numel(), generator=dice)].view(tensor.shape))


def _span(name: str, tensor: Tensor) -> tuple[float, float]:
    last = name.rpartition(".")[2]
    if tensor.ndim > 1 and tensor[0].numel() > 1:
        bound = (6 / tensor[0].numel()) ** 0.5
        return -bound, bound
    return (-0.4, 0.6) if last.startswith("bias") or last == "running_mean" else (0.5, 1.5)


def masked(original: nn.Module, pruned: nn.Module) -> nn.Module:
    """The original with zeros for everything that the pruned network lacks. AssertionError where a value is new."""
    whole, small = copy.deepcopy(original), dict(pruned.state_dict())
    assert small.keys() == original.state_dict().keys(), "the keys of the state_dict differ"
    norms = [(name, module) for name, module in whole.named_modules() if isinstance(module, NORMS)]
    in_norms = {f"{name}.{key}" if name else key for name, module in norms for key in module.state_dict()}
    stays = {}
    for name, tensor in whole.state_dict(keep_vars=True).items():
        if tensor.is_floating_point() and tensor.numel():
            stays[name] = torch.isin(tensor, small[name])
            assert int(stays[name].sum()) == small[name].numel(), f"{name} holds values that the original hasn't"
    for name, tensor in whole.state_dict(keep_vars=True).items():
        if name in stays and name not in in_norms:
            tensor.data = tensor.data * stays[name]
    for name, module in norms:
        mask = stays.get(f"{name}.weight")
        if isinstance(module, (nn.LayerNorm, nn.GroupNorm)) and mask is not None and not mask.all():
            _replace(whole, name, _Part(module, mask))
    return whole


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)


class _Part(nn.Module):
    """A norm over the channels that stay, group by group as they were; zeros for the rest."""

    def __init__(self, norm: nn.Module, mask: Tensor) -> None:
        super().__init__()
        self.norm, self.mask = norm, mask

    def forward(self, x: Tensor) -> Tensor:
        axis = 1 if isinstance(self.norm, nn.GroupNorm) else x.ndim - 1
        groups = self.norm.num_groups if isinstance(self.norm, nn.GroupNorm) else 1
        size = x.shape[axis] // groups
        out = torch.zeros_like(x)
        for first in range(0, x.shape[axis], size):
            at = first + self.mask[first : first + size].nonzero().flatten()
            if len(at):
                part, vectors = x.index_select(axis, at), (self.norm.weight[at], self.norm.bias[at])
                normed = (
                    F.group_norm(part, 1, *vectors, self.norm.eps)
                    if isinstance(self.norm, nn.GroupNorm) else F.layer_norm(part, [len(at)], *vectors, self.norm.eps)
                )  # fmt: skip
                out = out.index_copy(axis, at, normed)
        return out


def without_dropout(model: nn.Module) -> nn.Module:
    """Masks of dropout depend on the widths: nothing is dropped."""
    for module in model.modules():
        if isinstance(module, DROPOUTS):
            module.p = 0.0
        if isinstance(getattr(module, "dropout", None), float):  # of attention and of recurrent layers
            module.dropout = 0.0
    return model


def outputs(model: nn.Module, inputs: Sequence[Tensor], training: bool) -> list[Tensor]:
    """Of a copy in float64, with random numbers from one seed."""
    model = without_dropout(copy.deepcopy(model)).double().train(training)
    torch.manual_seed(1)
    random.seed(1)
    torch.backends.mha.set_fastpath_enabled(False)  # asks layers what a part of one hasn't
    with torch.no_grad():
        return _tensors(model(*(t.double() if t.is_floating_point() else t for t in inputs)))


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, Mapping) else value
    return [t for part in parts for t in _tensors(part)]


def difference(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    """The largest, relative to the largest value. AssertionError for other shapes."""
    assert [t.shape for t in first] == [t.shape for t in second], "the outputs have other shapes"
    scale = max(float(t.abs().max()) for t in first)
    return max(float((a - b).abs().max()) for a, b in zip(first, second, strict=True)) / max(scale, 1e-9)
