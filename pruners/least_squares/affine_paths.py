"""Following a layer's output to a sum, through operations that scale, shift or move single elements.

Between the layer and the sum the network is then ``y -> slope * y + shift``, element by element, and what the sum lacks
can be asked of the layer itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from ..run import FunctionMode, name_of, tree_leaves

_SUMS = {"add", "__add__", "__radd__", "add_", "__iadd__"}
_WITH_CONSTANT = _SUMS | {
    "sub", "__sub__", "sub_", "__isub__", "mul", "__mul__", "__rmul__", "mul_", "__imul__", "multiply", "div",
    "__truediv__", "true_divide", "div_", "__itruediv__",
}  # fmt: skip
_MOVES = {
    "view", "reshape", "flatten", "unflatten", "permute", "transpose", "movedim", "moveaxis", "swapaxes", "swapdims",
    "t", "squeeze", "unsqueeze", "contiguous", "clone", "roll", "neg", "__neg__", "detach", "view_as", "reshape_as",
}  # fmt: skip
_DROPOUTS = {"dropout", "dropout_", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"}
_NO_SLOPE = 1e-6  # of the largest: a channel that the sum hardly sees is left to its own output


@dataclass(frozen=True)
class Step:
    """One operation on the way; ``place``: which of its arguments comes from the layer."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    place: int

    def __call__(self, x: Tensor) -> Any:
        return self.function(*self.args[: self.place], x, *self.args[self.place + 1 :], **self.kwargs)

    @property
    def name(self) -> str:
        return name_of(self.function)


@dataclass(eq=False)
class Trail:
    """From a layer's output to ``front``, which ``steps`` have made of it."""

    layer: str
    start: Tensor
    front: Tensor
    steps: list[Step] = field(default_factory=list)

    def let_go(self) -> None:
        """Hold no tensors any more: only what has become of the layer's output is asked for from now on."""
        self.start = self.front = torch.empty(0)
        self.steps = [Step(step.function, (), {}, step.place) for step in self.steps]

    def replay(self, y: Tensor) -> Tensor:
        for step in self.steps:
            y = step(y)
        return y

    def pulled(self, other: Tensor) -> Tensor:
        """What the layer would have to give for the steps to make ``other`` of it, without their shifts."""
        with torch.enable_grad():
            start = torch.zeros_like(self.start).requires_grad_()
            end = self.replay(start + 0)
            ones, wanted = torch.ones_like(end), other.detach().to(end.dtype).expand_as(end)
            [slope] = torch.autograd.grad(end, start, ones, retain_graph=True)
            [back] = torch.autograd.grad(end, start, wanted)
        seen = slope.abs() > _NO_SLOPE * slope.abs().max()
        return torch.where(seen, back / torch.where(seen, slope, 1).square(), 0)


class Follower(FunctionMode):
    """Follows the trails it is given. ``on_sum(trail, other)`` is called before a trail's front is added to ``other``;
    there the trail ends, or at an operation of another kind."""

    def __init__(self, stored: Iterable[Tensor], on_sum: Callable[[Trail, Tensor], None]) -> None:
        super().__init__()
        self._constant = WeakTensorKeyDictionary()  # made of parameters and buffers alone
        for tensor in stored:
            self._constant[tensor] = True
        self._on_sum = on_sum
        self._trails: dict[int, Trail] = {}  # by the identity of their fronts, which they hold

    def follow(self, trail: Trail) -> None:
        self._trails[id(trail.front)] = trail

    def called(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        operands = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        met = [self._trails[id(t)] for t in operands if id(t) in self._trails]
        for trail in dict.fromkeys(met):
            other = self._added(name_of(func), args, kwargs, trail)
            if other is not None:
                self._on_sum(trail, other)
        out = func(*args, **kwargs)
        if isinstance(out, Tensor):
            self._note(func, args, kwargs, operands, dict.fromkeys(met), out)
        return out

    def _note(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], operands: list[Tensor],
        met: Iterable[Trail], out: Tensor,
    ) -> None:  # fmt: skip
        if operands and all(t in self._constant for t in operands):
            self._constant[out] = True
        for trail in met:
            self._trails.pop(id(trail.front), None)
            places = [i for i, a in enumerate(args) if a is trail.front]
            if len(places) == 1 and self._affine(name_of(func), args, kwargs, places[0]):
                kept = tuple(None if i == places[0] else a for i, a in enumerate(args))
                trail.steps.append(Step(func, kept, kwargs, places[0]))
                trail.front = out
                self.follow(trail)
            else:
                self._end(trail)

    def _end(self, trail: Trail) -> None:
        """Nothing comes after it. As many as there are layers would hold what all of them gave."""
        trail.let_go()

    def _added(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], trail: Trail) -> Tensor | None:
        """The tensor that is added to the trail's front, if it is one made of the data."""
        if name not in _SUMS or kwargs or len(args) != 2 or not all(isinstance(a, Tensor) for a in args):
            return None
        others = [a for a in args if a is not trail.front]
        if len(others) != 1 or others[0] in self._constant:
            return None
        fits = torch.broadcast_shapes(others[0].shape, trail.front.shape) == trail.front.shape
        return others[0] if fits else None

    def _affine(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], place: int) -> bool:
        if name in _WITH_CONSTANT:
            ordered = place == 0 or name not in {"div", "__truediv__", "true_divide"}
            return ordered and len(args) == 2 and self._is_constant(args[1 - place]) and not kwargs
        if place:
            return False
        if name == "batch_norm":
            return mean_of(args, kwargs) is not None and not kwargs.get("training", args[5] if len(args) > 5 else False)
        if name in _DROPOUTS:
            return not kwargs.get("training", args[2] if len(args) > 2 else True)
        return name in _MOVES or (name == "__getitem__" and _plain(args[1]))

    def _is_constant(self, value: Any) -> bool:
        return value in self._constant if isinstance(value, Tensor) else isinstance(value, (int, float))


def mean_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """The running mean in the arguments of ``batch_norm``."""
    return args[1] if len(args) > 1 else kwargs.get("running_mean")


def _plain(index: Any) -> bool:
    return all(leaf is None or isinstance(leaf, (int, slice)) or leaf is ... for leaf in tree_leaves(index))
