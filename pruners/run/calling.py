"""How a network is called: its arguments, its batch, and which of its modules runs at the moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from ..errors import InputError, NeedsDataError, OptionError
from .einops_calls import einops_seen
from .isolated import without_traces
from .torch_private import tree_leaves, tree_map


def require_module(model: object) -> None:
    """Raises TypeError for anything but a network."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"the network has to be a torch.nn.Module, not {type(model).__name__}: {model!r:.60}")


def require_inputs(example: Any) -> None:
    """Raises InputError where the inputs are their shape only, or nothing."""
    if example is None:
        raise InputError("there is no example input: give one, such as torch.randn(1, 3, 224, 224)")
    plain = isinstance(example, (tuple, list)) and len(example) > 2 and all(type(n) is int for n in example)
    if isinstance(example, torch.Size) or plain:
        raise InputError(f"the example input is a shape: give a tensor of it, such as torch.randn({tuple(example)})")


class Modules:
    """Which module runs at the moment, by its path in the tree."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.path_of = {id(m): name for name, m in model.named_modules(remove_duplicate=True)}
        self.all = list(model.modules())  # keeps the identities alive
        self._stack: list[str] = [""]

    @property
    def current(self) -> str:
        return self._stack[-1]

    def at(self, path: str) -> nn.Module:
        """The module at a path in the tree."""
        return self._model.get_submodule(path)

    @property
    def running(self) -> tuple[nn.Module, nn.Module | None]:
        """The module that runs, and the one around it."""
        path = self.current
        outer = self.at(path.rpartition(".")[0]) if path else None
        return self.at(path), outer

    @contextmanager
    def watching(self) -> Iterator[None]:
        enter = torch.nn.modules.module.register_module_forward_pre_hook(self._enter)
        leave = torch.nn.modules.module.register_module_forward_hook(self._leave, always_call=True)
        with hooked([enter, leave]), einops_seen():
            yield

    def _enter(self, module: nn.Module, args: Any) -> None:
        self._stack.append(self.path_of.get(id(module), self._stack[-1]))

    def _leave(self, module: nn.Module, args: Any, out: Any) -> None:
        self._stack.pop()


def call_arguments(example_input: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments for the model from what the user gave as example input."""
    if isinstance(example_input, Mapping):
        return (), dict(example_input)
    if isinstance(example_input, (tuple, list)):
        return tuple(example_input), {}
    return (example_input,), {}


def examples_of(example_input: Any) -> tuple[Any, ...]:
    """What the network is run on: a list holds one example after the other, anything else is one."""
    return tuple(example_input) if type(example_input) is list else (example_input,)


def training_batch(example_input: Any) -> Any:
    """At least two images: batch norm can't be trained on one."""

    def doubled(leaf: Any) -> Any:
        alone = isinstance(leaf, Tensor) and leaf.ndim > 0 and leaf.shape[0] == 1
        return torch.cat([leaf, leaf]) if alone else leaf

    return tree_map(doubled, example_input)


def batch_size(example_input: Any) -> int:
    """The length of the first tensor's first axis; 1 where no tensor has one."""
    tensors = [t for t in tree_leaves(example_input) if isinstance(t, Tensor) and t.ndim > 0]
    return int(tensors[0].shape[0]) if tensors else 1


def images_of(batch: Any) -> Tensor:
    """A batch of images, given by itself or first in a tuple, with their labels. UsageError for anything else."""
    images = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
    if not isinstance(images, Tensor):
        inside = "" if images is batch else f" of {type(images).__name__}"
        raise OptionError(
            f"a batch must be a tensor of images, or a tuple that begins with one, not {type(batch).__name__}{inside}"
        )
    return images


def scores_of(output: Any, inputs: Tensor) -> Tensor | None:
    """Rows of class scores: one for each image, or for each token of sequences (a library's output holds them as
    ``logits``). None where the output holds none."""
    scores = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if isinstance(scores, Tensor) and scores.ndim == 3 and not inputs.is_floating_point():
        scores = scores.flatten(0, 1)
    return scores if isinstance(scores, Tensor) and scores.ndim == 2 else None


def labels_of(batch: Any, what: str) -> Tensor:
    """The labels of a batch: class indices, or a row of numbers for each image. UsageError where there are none."""
    labels = batch[1] if isinstance(batch, (tuple, list)) and len(batch) > 1 else None
    if not isinstance(labels, Tensor):
        raise NeedsDataError(
            f"{what} needs labels, and these batches are images alone: give (images, labels) pairs, or take a metric "
            "that needs none, such as reconstruction or l1"
        )
    if not labels.is_floating_point() and labels.numel() and int(labels.min()) < 0:
        raise NeedsDataError(f"{what} needs labels, and {int(labels.min())} is none: number the classes from 0 on")
    return labels


@contextmanager
def same_mode(model: nn.Module) -> Iterator[None]:
    """Puts every module back into training or evaluation mode afterwards."""
    training = {m: m.training for m in model.modules()}
    try:
        yield
    finally:
        for module, flag in training.items():
            module.training = flag


@contextmanager
def hooked(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """These hooks, which are there already, are there until the block ends."""
    with ExitStack() as stack:
        for handle in handles:
            stack.callback(handle.remove)
        yield


@contextmanager
def as_it_was(model: nn.Module) -> Iterator[None]:
    """Leaves nothing of what is run within: neither another mode nor what running keeps on modules."""
    with same_mode(model), without_traces(model):
        yield


class FunctionMode(TorchFunctionMode):
    """Within it, functions of torch's that code calls go through ``called``."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return self.called(func, args, kwargs or {})

    def called(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What takes the place of a call; gives what it gives."""
        raise NotImplementedError


def name_of(func: Any) -> str:
    """A function's name, or its text where it has none."""
    return getattr(func, "__name__", str(func))
