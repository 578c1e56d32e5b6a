"""Layers whose input sizes torch finds on the first call (``nn.LazyLinear``): made plain before anything is asked."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

from .calling import call_arguments, same_mode
from .torch_private import infer_sizes

_SIZES = ("in_features", "in_channels", "num_features")


def is_lazy_network(model: nn.Module) -> bool:
    """Whether some of its layers wait for their sizes."""
    return any(map(_waits, model.modules()))


def settle_sizes(model: nn.Module, inputs: Any) -> None:
    """Run the network once, in place and in evaluation, so that lazy layers become plain ones."""
    args, kwargs = call_arguments(inputs)
    with same_mode(model), torch.no_grad():
        model.eval()(*args, **kwargs)


def settle_alike(made: nn.Module, live: nn.Module) -> None:
    """Lazy layers of a network that never ran get the sizes of those that became of them in the ``live`` one."""
    theirs = dict(live.named_modules(remove_duplicate=False))
    for path, layer in made.named_modules(remove_duplicate=False):
        size = next((s for name in _SIZES if (s := getattr(theirs.get(path), name, 0))), 0)
        if _waits(layer) and size:
            around = layer._get_num_spatial_dims() if hasattr(layer, "_get_num_spatial_dims") else 0
            infer_sizes(layer, torch.empty(1, size, *(around * [1])))


def _waits(module: nn.Module) -> bool:
    return isinstance(module, LazyModuleMixin) and module.has_uninitialized_params()
