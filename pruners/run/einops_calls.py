"""Calls of einops as one call each, which torch's modes see: ``rearrange(x, "b n (h d) -> b h n d", h=heads)``.

What einops calls inside has other numbers than the author's line; the lengths that are said there are the author's.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.overrides import handle_torch_function, has_torch_function

_ORIGINAL: list[Any] = []  # einops' own function, while it is replaced


def rearrange(tensor: Any, pattern: str, reduction: Any, **lengths: Any) -> Any:
    """What ``einops.rearrange`` and ``einops.repeat`` come to."""
    return _ORIGINAL[-1](tensor, pattern, reduction, **lengths)


@contextmanager
def einops_seen() -> Iterator[None]:
    """Within this block modes see ``rearrange`` (the one above) for each call of einops' functions of that kind."""
    module: Any = sys.modules.get("einops.einops")
    if module is None or not hasattr(module, "reduce"):
        yield
        return

    def seen(tensor: Any, pattern: str, reduction: Any, **lengths: Any) -> Any:
        if has_torch_function((tensor,)):
            return handle_torch_function(rearrange, (tensor,), tensor, pattern, reduction, **lengths)
        return rearrange(tensor, pattern, reduction, **lengths)

    before = module.reduce
    if not _ORIGINAL:
        module.reduce = seen
    _ORIGINAL.append(_ORIGINAL[0] if _ORIGINAL else before)
    try:
        yield
    finally:
        _ORIGINAL.pop()
        module.reduce = before


def axes_named(pattern: str) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """What each axis on the left and on the right of a pattern is made of; from the end behind an ellipsis."""
    left, _, right = pattern.partition("->")
    return _axes(left), _axes(right)


def _axes(side: str) -> dict[int, list[str]]:
    axes = re.findall(r"\([^)]*\)|\S+", side)
    behind = axes.index("...") if "..." in axes else len(axes)
    numbers = [*range(behind), *range(behind - len(axes), 0)]
    named = {number: axis.strip("()").split() for number, axis in zip(numbers, axes, strict=True)}
    return {number: names for number, names in named.items() if "..." not in names}
