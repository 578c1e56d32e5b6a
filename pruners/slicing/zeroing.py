"""A pruned network in the whole one's shape: what is removed stays in place and is zero.

The weights keep their places and can be trained there (``zeroOut``). Every layer with channels of its own reads the
kept channels only, computes with the kept slices of its tensors, and lays the result among zeros. Slices and not
products with a mask, because a layer may make something of all its weights: the scale of a binary filter, the mean it
is centred by. So the network computes what the sliced one does, and no gradient reaches what is removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UnsuitedError
from ..graph import BoolArray, ChannelGraph, Kept, Slot
from ..run import CONV_FORWARD, ConvBase, ConvTransposeBase, NormBase, copied
from ..weight_transfer import masks_by_key, slice_tensor

Masks = dict[str, list[tuple[Slot, BoolArray]]]


def zero_out(model: nn.Module, graph: ChannelGraph, kept: Kept) -> nn.Module:
    """A copy of the network in which removed channels are zero, also while it trains.

    Its state_dict has the keys and shapes of the whole network. Raises UsageError, naming the layer, where channels go
    from anything but convolutions, linear layers, batch norms and PReLUs.
    """
    twin = copied(model)
    masks = masks_by_key(graph, kept)
    for name, layer in list(twin.named_modules()):
        own: Masks = {}
        for key, _ in (*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)):
            found = masks.get(graph.key(name, key))
            if found:
                own[key] = found
        if own and not isinstance(layer, nn.PReLU):  # a factor for zeros
            layer.forward = _part_of(layer, own, name)
    return twin


@dataclass
class _Part:
    """A layer's forward on what is kept: ``entering`` and ``leaving`` are positions of the axis of channels."""

    layer: nn.Module
    forward: Callable[..., Tensor]
    masks: Masks
    axis: int
    entering: Tensor | None
    leaving: Tensor | None
    size: int
    groups: int | None

    def __call__(self, x: Tensor, *args: Any) -> Tensor:
        if self.entering is not None:
            x = x.index_select(self.axis, self.entering.to(x.device))
        with self._slices():
            y = self.forward(x, *args)
        if self.leaving is None:
            return y
        shape = list(y.shape)
        shape[self.axis] = self.size
        return y.new_zeros(shape).index_copy(self.axis, self.leaving.to(y.device), y)

    @contextmanager
    def _slices(self) -> Iterator[None]:
        """The layer holds slices of its tensors; what it does to those of its buffers is kept."""
        layer = self.layer
        parameters = {n: p for n, p in layer._parameters.items() if n in self.masks}
        buffers = {n: b for n, b in layer._buffers.items() if n in self.masks and b is not None}
        groups = layer.groups if self.groups is not None else None
        try:
            for name, tensor in {**parameters, **buffers}.items():
                if tensor is not None:
                    holder = layer._parameters if name in parameters else layer._buffers
                    holder[name] = slice_tensor(tensor, self.masks[name])  # type: ignore[assignment]
            if self.groups is not None:
                layer.groups = self.groups  # type: ignore[assignment]
            yield
            for name, buffer in buffers.items():
                small = layer._buffers[name]
                assert small is not None
                place = torch.from_numpy(self.masks[name][0][1]).nonzero().reshape(-1).to(buffer.device)
                buffer.index_copy_(0, place, small)
        finally:
            layer._parameters.update(parameters)
            layer._buffers.update(buffers)
            if groups is not None:
                layer.groups = groups


def _part_of(layer: Any, own: Masks, name: str) -> _Part:
    if isinstance(layer, NormBase):
        mask = next(iter(own.values()))[0][1]
        return _Part(layer, layer.forward, own, 1, _positions(mask), _positions(mask), mask.size, None)
    if not isinstance(layer, (ConvBase, nn.Linear)) or isinstance(layer, ConvTransposeBase):
        raise UnsuitedError(
            f"zeroOut can't keep channels of {name or 'the network'} ({type(layer).__name__}) at zero: "
            "take --mode prune"
        )
    by_axis = {slot.dim: mask for slot, mask in own.get("weight", [])}
    made, read = by_axis.get(0), by_axis.get(1)
    groups = None
    if isinstance(layer, ConvBase) and layer.groups == layer.in_channels > 1 and made is not None:
        if layer.out_channels != layer.groups:
            raise UnsuitedError(f"zeroOut can't keep channels of {name} at zero, which has several for each input: "
                             "take --mode prune")  # fmt: skip
        read, groups = made, int(made.sum())
    axis = -1 if isinstance(layer, nn.Linear) else 1
    return _Part(layer, layer.forward, own, axis, _positions(read), _positions(made), len(layer.weight), groups)


def _positions(mask: BoolArray | None) -> Tensor | None:
    return None if mask is None else torch.from_numpy(mask).nonzero().reshape(-1)


def zero_kernels(model: nn.Module, layer: str, removed: Sequence[int]) -> nn.Module:
    """A copy of the network in which kernels of one convolution are zero, whatever it quantizes its weights to.

    ``removed`` numbers them in the order of the weight's first two axes; scales stay as they are.
    """
    twin = copied(model)
    conv: Any = twin.get_submodule(layer)
    keep = torch.ones(conv.weight.shape[0] * conv.weight.shape[1], dtype=conv.weight.dtype)
    keep[list(removed)] = 0
    mask = keep.view(*conv.weight.shape[:2], *[1] * (conv.weight.ndim - 2))
    whole = getattr(conv, CONV_FORWARD)

    def without(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return whole(x, weight * mask.to(weight.device), bias)

    setattr(conv, CONV_FORWARD, without)
    return twin
