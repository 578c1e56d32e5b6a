"""Everything of torch's private parts that the toolkit uses, so that a new torch can break it in one place only.

``tests/test_torch_private.py`` shows for each that torch has it and that it does what is relied on. Two kinds of uses
stand elsewhere and are tested there too: ``isolated`` is also run as a script that imports nothing of the toolkit,
and what subclasses of torch's own layers use (``_parameters``, ``_buffers``, ``_modules``, ``_conv_forward``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch._C import DisableTorchFunction as WithoutTorchFunction
from torch._C import _DisableTorchDispatch as WithoutTorchDispatch
from torch._ops import OpOverload
from torch.nn.modules.batchnorm import _BatchNorm as BatchNormBase
from torch.nn.modules.batchnorm import _NormBase as NormBase
from torch.nn.modules.conv import _ConvNd as ConvBase
from torch.nn.modules.conv import _ConvTransposeNd as ConvTransposeBase
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map

__all__ = [
    "CONV_FORWARD", "TRUNCATED_NORMAL", "BatchNormBase", "ConvBase", "ConvTransposeBase", "NormBase", "OpOverload",
    "WithoutTorchDispatch", "WithoutTorchFunction", "gather_weights", "infer_sizes", "paddings", "schema_of",
    "storage_of", "tree_flatten", "tree_leaves", "tree_map", "unsaved_buffers", "without_modes",
]

TRUNCATED_NORMAL = "_no_grad_trunc_normal_"  # of nn.init: what trunc_normal_ calls, wherever that was imported
CONV_FORWARD = "_conv_forward"  # method of a convolution: what it does with its input, a weight and a bias


@contextmanager
def without_modes() -> Iterator[None]:
    """Within this block no mode sees what is computed."""
    with WithoutTorchFunction(), _disable_current_modes():
        yield


def storage_of(tensor: Tensor) -> int:
    """The identity of the memory behind a tensor, also where that is empty or on the meta device."""
    return int(tensor.untyped_storage()._cdata)


def schema_of(operation: Any) -> Any:
    """``is_mutable`` and ``arguments`` (``name``, ``kwarg_only``, ``alias_info``) of an operation's signature."""
    return operation._schema


def unsaved_buffers(module: nn.Module) -> set[str]:
    """Names of the module's own buffers that its state_dict leaves out."""
    return module._non_persistent_buffers_set


def paddings(conv: Any) -> tuple[int, ...]:
    """How much a convolution pads, as F.pad takes it: last axis first, both sides."""
    return tuple(conv._reversed_padding_repeated_twice)


def gather_weights(layer: nn.RNNBase) -> None:
    """Make a recurrent layer compute with the parameters it has now."""
    layer._init_flat_weights()


def infer_sizes(layer: Any, example: Tensor) -> None:
    """Make a lazy layer plain, by what it is called with."""
    layer._infer_parameters(layer, (example,))
