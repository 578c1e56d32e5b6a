"""Weights that are kept in one line and viewed as filters: ``self.column.view(32, 16, 3, 3)``."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from .call import Call

Shape = tuple[int, ...]


def is_line(shape: Collection[int]) -> bool:
    return sum(n > 1 for n in shape) == 1


class FlatWeights:
    """What is known about a network's flat weights: the shape in which a product reads each of them.

    The first pass finds it; in the next one such a parameter has channels as if it were stored in this shape.
    """

    def __init__(self) -> None:
        self.shapes: dict[str, Shape] = {}
        self.begin()

    def begin(self) -> None:
        """The passes begin anew."""
        self._views: dict[str, Shape] = {}
        self._wanted: dict[str, Shape] = {}
        self._lines = WeakTensorKeyDictionary()

    def revise(self) -> bool:
        """After a pass: whether another is needed."""
        new = {name: shape for name, shape in self._wanted.items() if name not in self.shapes}
        self.shapes |= new
        return bool(new)

    def name_of(self, tensor: Tensor) -> str | None:
        """The parameter that the tensor is made of element by element, and lies like."""
        found: str | None = self._lines.get(tensor)
        return found

    def stays(self, call: Call, name: str) -> None:
        """What the operation gives lies as the parameter does."""
        for out in call.outputs:
            self._lines[out] = name

    def viewed(self, name: str, out: Tensor) -> None:
        self._views.setdefault(name, tuple(out.shape))

    def multiplied(self, name: str | None) -> None:
        """A product reads what is made of this parameter."""
        if name in self._views:
            self._wanted.setdefault(name, self._views[name])
