"""Facts about torch's own layers, for whoever knows a layer's input channels without running it."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, nn

from ..errors import TraceError
from ..places import Site
from ..run import ConvTransposeBase, NormBase
from .facts import Facts
from .widths import IntArray, Slot

NORMS = (NormBase, nn.GroupNorm, nn.PReLU)
_TRANSPOSED = ConvTransposeBase


def canonical_keys(model: nn.Module) -> dict[str, str]:
    """State key -> the first key of the same tensor (another one only where weights are tied)."""
    first: dict[int, str] = {}
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return {name: first.setdefault(id(tensor), name) for name, tensor in tensors}


def is_weighted(layer: nn.Module) -> bool:
    """Whether the layer has a weight with an output and an input axis: a convolution or a linear layer."""
    weight = getattr(layer, "weight", None)
    return isinstance(weight, Tensor) and weight.ndim >= 2 and not isinstance(layer, nn.Embedding)


def groups_of(layer: nn.Module) -> int:
    """In how many groups a layer's channels stand apart; 1 for layers that know no groups."""
    return int(getattr(layer, "groups", 1))


def input_size(layer: nn.Module, groups: int | None = None) -> int:
    """Input channels (features) of a convolution or a linear layer."""
    weight: Any = layer.weight
    if isinstance(layer, _TRANSPOSED):
        return int(weight.shape[0])
    return int(weight.shape[1]) * (groups_of(layer) if groups is None else groups)


def fits(layer: nn.Module, groups: int, channels: IntArray) -> bool:
    """Whether the layer can read these channels; a linear layer may read each several times, after a flatten."""
    size = input_size(layer, groups)
    return size == channels.size or (isinstance(layer, nn.Linear) and size % channels.size == 0)


def norm_size(norm: nn.Module) -> int:
    """Channels that one of NORMS stores values for."""
    names = ("num_features", "num_channels", "num_parameters")
    return next((int(getattr(norm, n)) for n in names if hasattr(norm, n)), 0)


class LayerFacts:
    """Collects facts layer by layer. Channels are arrays of atoms; atom 0 is a channel that must stay."""

    def __init__(self, model: nn.Module) -> None:
        self.keys = canonical_keys(model)
        tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        self.facts = Facts({k: tuple(t.shape) for k, t in tensors.items() if self.keys[k] == k})

    @property
    def aliases(self) -> dict[str, str]:
        return {k: first for k, first in self.keys.items() if k != first}

    def produce(self, path: str, layer: nn.Module, groups: int, site: Site) -> IntArray:
        """The output channels of a convolution or a linear layer, tied to its bias."""
        if isinstance(layer, _TRANSPOSED):
            per_group = int(layer.weight.shape[1])
            if _is_depthwise(layer, groups):
                found = np.repeat(self._atoms(path, "weight", 0), per_group)
            else:
                found = np.tile(self._atoms(path, "weight", 1), groups)
        else:
            found = self._atoms(path, "weight", 0)
        self._play(found, "out")
        if isinstance(getattr(layer, "bias", None), Tensor):
            self.facts.tie(found, self._atoms(path, "bias", 0), "bias", site)
        return found

    def read(self, path: str, layer: nn.Module, groups: int, incoming: IntArray | None, site: Site) -> None:
        """The layer reads these channels; None: channels that nobody prunes, such as the network's input.

        A linear layer after a flatten reads every channel several times in a row. Raises NotPrunableError if the
        numbers of channels don't fit.
        """
        known = _fitting(path, layer, groups, incoming)
        if _is_depthwise(layer, groups):
            outgoing = self.produce(path, layer, groups, site)
            self.facts.tie(np.repeat(known, outgoing.size // known.size), outgoing, "depth-wise convolution", site)
            return
        transposed = isinstance(layer, _TRANSPOSED)
        stored = self._atoms(path, "weight", 0) if transposed else self._atoms(path, "weight", 1, groups)
        self.facts.tie(known, stored, "read by", site)
        if known.any():
            self._play(stored, "in")
        if groups > 1:
            outgoing = self.produce(path, layer, groups, site)
            for atoms in (known, outgoing):
                self.facts.uniform(atoms.reshape(groups, -1), "a grouped convolution", site)

    def normalise(self, path: str, layer: nn.Module, channels: IntArray, site: Site) -> None:
        """The layer stores one value per channel."""
        for name, tensor in [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]:
            if tensor.ndim == 1 and tensor.numel() > 1:
                self.facts.tie(channels, self._atoms(path, name, 0), type(layer).__name__, site)
        if isinstance(layer, nn.GroupNorm):
            self.facts.statistic(channels)
            self.facts.uniform(channels.reshape(layer.num_groups, -1), "a group norm", site)

    def _atoms(self, path: str, name: str, axis: int, blocks: int = 1) -> IntArray:
        key = f"{path}.{name}" if path else name
        if key not in self.keys:
            raise TraceError(f"{key} is computed from other tensors, so only a trace finds its ties")
        return self.facts.atoms(Slot(self.keys[key], axis, blocks))

    def _play(self, atoms: IntArray, role: str) -> None:
        for slot in self.facts.slots_of(atoms):
            self.facts.play(slot, role)


def _is_depthwise(layer: nn.Module, groups: int) -> bool:
    return groups > 1 and input_size(layer, groups) == groups


def _fitting(path: str, layer: nn.Module, groups: int, incoming: IntArray | None) -> IntArray:
    size = input_size(layer, groups)
    if incoming is None or incoming.size == 1:
        return np.zeros(size, dtype=np.int64)
    if not fits(layer, groups, incoming):
        raise TraceError(
            f"{path} reads {size} channels, but {incoming.size} come from the layers defined before it: "
            "layers don't run in the order of their definition here, so only a trace finds the ties"
        )
    return np.repeat(incoming, size // incoming.size)
