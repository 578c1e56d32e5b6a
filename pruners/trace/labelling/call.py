"""One executed operation, as label rules see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...places import Site
from ...run import OpOverload, tree_leaves


@dataclass(frozen=True)
class Call:
    """One executed operation. ``strides``: the first operand's before it ran."""

    op: OpOverload
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: Any
    site: Site
    strides: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        return self.op.overloadpacket.__name__

    @property
    def tensors(self) -> list[Tensor]:
        return [t for t in tree_leaves((self.args, self.kwargs)) if isinstance(t, Tensor)]

    @property
    def outputs(self) -> list[Tensor]:
        return [t for t in tree_leaves(self.out) if isinstance(t, Tensor)]

    def arg(self, index: int, name: str, default: Any = None) -> Any:
        return self.args[index] if len(self.args) > index else self.kwargs.get(name, default)
