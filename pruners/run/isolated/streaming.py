"""Weights that come when they are needed and go again, for networks that may be larger than the memory."""

from __future__ import annotations

import ctypes
import math
import mmap
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

_LARGE = 2**20
_MAP_FROM = -3  # mallopt: memory of this size and more goes back to the system as soon as it is free
_DROP = 4  # madvise: pages of a file are mapped anew when they are needed; the system may keep them meanwhile
_spare: dict[int, torch.UntypedStorage] = {}  # by size; memory that is new costs more than what is read into it


class Streamed(nn.Parameter):
    """A parameter of a network that may be larger than the memory: it has its values only while a module that it
    belongs to runs, and is NaN otherwise. Copies of a network share it.

    ``values``: makes them, or reads them, each time anew.
    """

    values: Callable[[], Tensor]
    _users = 0

    def __deepcopy__(self, memo: Any) -> Streamed:
        return self

    def read(self) -> Tensor:
        """The values, in the parameter's shape and type. No mode sees how they come about."""
        with torch.no_grad(), torch._C.DisableTorchFunction(), _disable_current_modes():
            found = self.values()
        if found.shape != self.shape:
            raise ValueError(f"values of shape {tuple(found.shape)} for a parameter of {tuple(self.shape)}")
        return found

    def come(self) -> None:
        if not self._users:
            self._set(self.read())
        self._users += 1

    def go(self) -> None:
        self._users -= 1
        if not self._users:
            with torch._C.DisableTorchFunction(), _disable_current_modes():
                storage = self.data.untyped_storage()
            self._set(_nothing(self))
            _give_back(storage)

    def _set(self, values: Tensor) -> None:
        with torch._C.DisableTorchFunction(), _disable_current_modes():
            self.data = values


def room(shape: Sequence[int]) -> Tensor:
    """Memory for numbers of float32, maybe what values had that went."""
    storage = _spare.pop(4 * math.prod(shape), None)
    return torch.empty(tuple(shape)) if storage is None else torch.empty(0).set_(storage).view(tuple(shape))


def _give_back(storage: torch.UntypedStorage) -> None:
    alone = storage.device.type == "cpu" and storage.resizable() and torch._C._storage_Use_Count(storage._cdata) == 1
    if alone and storage.nbytes() >= _LARGE:
        _spare[storage.nbytes()] = storage


def _nothing(like: Tensor) -> Tensor:
    """NaN everywhere, which takes no memory."""
    return torch.tensor(float("nan")).expand(like.shape)


def streamed(like: Tensor, values: Callable[[], Tensor]) -> Streamed:
    """A parameter in float32."""
    found = Streamed(_nothing(like))
    found.values = values
    return found


def values_in(tensor: Tensor) -> Tensor:
    """Its values, which may have to come first."""
    return tensor.read() if isinstance(tensor, Streamed) else tensor.detach()


def streams(model: nn.Module) -> bool:
    """Whether the weights of a network come and go."""
    return any(isinstance(p, Streamed) for p in model.parameters())


def stream(model: nn.Module, values: Callable[[str, Tensor], Callable[[], Tensor]]) -> None:
    """From here on let weights come and go. ``values``: a parameter's name, and it -> how its values are made."""
    if sys.platform == "linux":
        with suppress(AttributeError):  # another C library
            ctypes.CDLL(None).mallopt(_MAP_FROM, _LARGE)
    found = {id(p): streamed(p, values(n, p)) for n, p in model.named_parameters()}
    for module in model.modules():
        own = {n: found[id(p)] for n, p in module._parameters.items() if p is not None}
        module._parameters.update(own)
        if own:
            module.register_forward_pre_hook(_before)
            module.register_forward_hook(_after, always_call=True)


def state_of(model: nn.Module) -> Mapping[str, Any]:
    """The ``state_dict``, or where weights come and go, how each is made."""
    if not streams(model):
        return model.state_dict()
    named = model.named_parameters(remove_duplicate=False)
    return {name: p.values for name, p in named if isinstance(p, Streamed)}


def take(model: nn.Module, state: Mapping[str, Any]) -> None:
    """Let a network have what ``state_of`` gave, or files that hold it. Raises RuntimeError where it has others."""
    if not streams(model):
        model.load_state_dict(state, strict=True)
        return
    named = model.named_parameters(remove_duplicate=False)
    own = {name: p for name, p in named if isinstance(p, Streamed)}
    if own.keys() != state.keys():
        raise RuntimeError(f"{min(own.keys() ^ state.keys())} isn't in both")
    for name, parameter in own.items():
        made = state[name]
        parameter.values = partial(torch.load, made, weights_only=True) if isinstance(made, str) else made


def _before(module: nn.Module, args: Any) -> None:
    for parameter in module._parameters.values():
        if isinstance(parameter, Streamed):
            parameter.come()


def _after(module: nn.Module, args: Any, out: Any) -> None:
    for parameter in module._parameters.values():
        if isinstance(parameter, Streamed):
            parameter.go()


def from_files(model: nn.Module) -> None:
    """From here on let the weights come from the files that they lie in, as copies in float32."""
    files = _files_in_memory()
    stream(model, lambda name, tensor: partial(_from_file, tensor.detach(), files))


def _from_file(tensor: Tensor, files: Sequence[range]) -> Tensor:
    found = room(tensor.shape).copy_(tensor)
    if tensor.nbytes:
        first = tensor.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
        last = tensor.data_ptr() + tensor.nbytes
        if any(first in file and last - 1 in file for file in files):
            ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), _DROP)
    return found


def _files_in_memory() -> list[range]:
    """Where files are mapped, of which nothing was changed since."""
    found: list[range] = []
    with suppress(OSError):
        for line in Path("/proc/self/smaps").read_text().splitlines():
            words = line.split()
            if "-" in words[0]:
                first, last = (int(end, 16) for end in words[0].split("-"))
                named = len(words) > 5 and words[5].startswith("/")
            elif words[0] == "Private_Dirty:" and words[1] == "0" and named:
                found.append(range(first, last))
    return found
