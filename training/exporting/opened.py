"""A file that a runtime has opened, called as a network is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from ...pruners.run import tree_leaves


class Opened(nn.Module):
    """``call``: the tensors that come out, of the leaves of what goes in, in order."""

    def __init__(self, call: Callable[[list[Any]], Sequence[Tensor]]) -> None:
        super().__init__()
        self.call = call

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        found = tuple(self.call(tree_leaves((args, kwargs))))
        return found[0] if len(found) == 1 else found
