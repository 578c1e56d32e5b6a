"""Networks that give NaN themselves, on whose outputs no proof can be built."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import TraceError
from ..run import DispatchMode, author_site, tree_leaves
from .outputs import outputs_of


class _FirstNaN(DispatchMode):
    """``site``: where numbers first became NaN."""

    def __init__(self) -> None:
        super().__init__()
        self.site: Any = None

    def called(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        out = func(*args, **kwargs)
        if self.site is None and _has_nan(out) and not _has_nan((args, kwargs)):
            self.site = author_site()
        return out


def refuse_nan(model: nn.Module, inputs: Any, double: bool = False) -> None:
    """Raises TraceError, with file and line, where the network makes NaN of these inputs."""
    first = _FirstNaN()
    with suppress(Exception):  # what doesn't run is refused elsewhere
        if not _has_nan(outputs_of(model, inputs, double)):
            return
        outputs_of(model, inputs, double, lambda _: first)
    if first.site is not None:
        raise TraceError(
            "the network itself, not yet pruned, makes NaN here of random inputs: nothing can be held against it",
            site=first.site, help="an --input-shape, or an --example, for which it gives numbers",
        )  # fmt: skip


def _has_nan(values: Any) -> bool:
    tensors = [t for t in tree_leaves(values) if isinstance(t, Tensor) and t.is_floating_point()]
    return any(t.numel() and bool(torch.isnan(t).any()) for t in tensors)
