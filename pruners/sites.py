"""Numbers in calls that must follow the widths: ``x.view(-1, 256 * 4)``, ``F.pad(x, (..., 8, 8))``.

A site rule says which integers of a call equal the size of which labelled axis. The tracer records them; after a
plan is made, ``CountedCall.extents`` give every such integer its new value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from pruners.channel_graph import Span
from pruners.facts import SiteCall
from pruners.frames import author_frame, author_site, span
from pruners.labels import along

if TYPE_CHECKING:
    from pruners.tracing import Tracer

Path = tuple[int | str, ...]


Finder = Callable[["Tracer", tuple[Any, ...], dict[str, Any], Any], dict[Path, Tensor]]
SITE_RULES: dict[Any, Finder] = {}


def site_rule(*functions: Any) -> Callable[[Finder], Finder]:
    """Register which integers of these functions count channels."""

    def register(finder: Finder) -> Finder:
        SITE_RULES.update(dict.fromkeys(functions, finder))
        return finder

    return register


def _sizes(args: Sequence[Any], start: int) -> dict[int, Path]:
    """Output axis -> path of the integer that gives its size, for ``f(x, 2, 3)`` and ``f(x, (2, 3))``."""
    if len(args) > start and isinstance(args[start], (tuple, list)):
        return {axis: (start, axis) for axis in range(len(args[start]))}
    return {axis: (start + axis,) for axis in range(len(args) - start)}


@site_rule(Tensor.view, Tensor.reshape, torch.reshape, Tensor.expand, Tensor.new_zeros, Tensor.new_ones)
def shape_of_output(tracer: Tracer, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> dict[Path, Tensor]:
    """Each integer is the size of one axis of the output."""
    labels = tracer.labels(out)
    found = {}
    for axis, path in _sizes(args, 1).items():
        line = along(labels, axis) if axis < out.ndim else None
        if line is not None:
            found[path] = line
    return found


@site_rule(F.pad, torch._C._nn.pad, torch.constant_pad_nd)
def padding_of_channels(tracer: Tracer, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> dict[Path, Tensor]:
    """Amounts of padding on an axis of channels count the padded channels."""
    amounts: Sequence[int] = args[1] if len(args) > 1 else kwargs["pad"]
    base: Path = (1,) if len(args) > 1 else ("pad",)
    labels, found = tracer.labels(out), {}
    for place in range(0, len(amounts) - 1, 2):
        line = along(labels, out.ndim - 1 - place // 2)
        if line is None or not (amounts[place] or amounts[place + 1]):
            continue
        found[(*base, place)] = line[: amounts[place]]
        found[(*base, place + 1)] = line[line.numel() - amounts[place + 1] :]
    return found


@site_rule(F.conv1d, F.conv2d, F.conv3d, torch.conv1d, torch.conv2d, torch.conv3d)
def groups_of_depthwise(tracer: Tracer, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> dict[Path, Tensor]:
    """The number of groups of a depth-wise convolution counts its input channels."""
    groups = args[6] if len(args) > 6 else kwargs.get("groups", 1)
    weight = args[1] if len(args) > 1 else kwargs["weight"]
    if groups == 1 or weight.shape[1] != 1:
        return {}
    line = along(tracer.labels(args[0]), args[0].ndim - weight.ndim + 1)
    return {} if line is None else {((6,) if len(args) > 6 else ("groups",)): line}


class SiteRecorder(TorchFunctionMode):
    """Records, during a trace, every call that a site rule knows."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self._tracer = tracer

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        finder = SITE_RULES.get(func)
        if finder is not None:
            counts = {p: line.numpy() for p, line in finder(self._tracer, args, kwargs, out).items()}
            module = self._tracer.modules.current
            self._tracer.site_calls.append(SiteCall(name_of(func), module, author_site(), here(), counts))
        return out


def name_of(func: Any) -> str:
    return getattr(func, "__name__", str(func))


def here() -> Span:
    frame = author_frame()
    return span(frame) if frame is not None else (0, 0, 0, 0)
