"""Numbers in calls that must follow the widths: ``x.view(-1, 256 * 4)``, ``F.pad(x, (..., 8, 8))``.

A site rule says which integers of a call equal the size of which labelled axis. The tracer records them; after a
plan is made, ``CountedCall.extents`` give every such integer its new value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..graph import SiteCall
from ..places import Span
from ..run import (
    FunctionMode,
    WithoutTorchDispatch,
    author_frame,
    author_site,
    axes_named,
    in_stand_in,
    name_of,
    rearrange,
    span,
    tree_leaves,
    unwatched,
)
from .labelling import Tracer, along, axes_of, compact
from .torch_functions import SPECIAL, special

Path = tuple[int | str, ...]


Finder = Callable[["Tracer", tuple[Any, ...], dict[str, Any], Any], dict[Path, Tensor]]
SITE_RULES: dict[Any, Finder] = {}


def site_rule(*functions: Any) -> Callable[[Finder], Finder]:
    """Register which integers of these functions count channels."""

    def register(finder: Finder) -> Finder:
        SITE_RULES.update(dict.fromkeys(functions, finder))
        return finder

    return register


def _sizes(args: Sequence[Any], kwargs: dict[str, Any], start: int) -> dict[int, Path]:
    """Output axis -> path of the integer that gives its size, for ``f(x, 2, 3)``, ``f(x, (2, 3))`` and ``shape=``."""
    for name in ("shape", "size"):
        if isinstance(kwargs.get(name), (tuple, list)):
            return {axis: (name, axis) for axis in range(len(kwargs[name]))}
    if len(args) > start and isinstance(args[start], (tuple, list)):
        return {axis: (start, axis) for axis in range(len(args[start]))}
    return {axis: (start + axis,) for axis in range(len(args) - start)}


_NEW = (torch.zeros, torch.ones, torch.empty, torch.rand, torch.randn, torch.full)


@site_rule(Tensor.view, Tensor.reshape, torch.reshape, Tensor.expand, Tensor.broadcast_to,
           torch.broadcast_to, *_NEW, Tensor.new_zeros, Tensor.new_ones,
           Tensor.new_empty, Tensor.new_full)  # fmt: skip
def shape_of_output(tracer: Tracer, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> dict[Path, Tensor]:
    """Each integer is the size of one axis of the output."""
    if tracer.flat_name(out) in tracer.flat.shapes:
        return {}
    labels = tracer.labels(out)
    lines = {axis: along(labels, axis) for axis in range(out.ndim)}
    found = {}
    for axis, path in _sizes(args, kwargs, int(bool(args) and isinstance(args[0], Tensor))).items():
        line = lines.get(axis)
        found[path] = torch.zeros(out.shape[axis], dtype=torch.int64) if line is None else line
    return found


@site_rule(F.layer_norm, F.rms_norm, torch.layer_norm, torch.rms_norm)
def sizes_of_norm(tracer: Tracer, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> dict[Path, Tensor]:
    """The shape that is normalised is that of the last axes."""
    base: Path = (1,) if len(args) > 1 else ("normalized_shape",)
    shape = args[1] if len(args) > 1 else kwargs["normalized_shape"]
    lines = {place: along(tracer.labels(out), out.ndim - len(shape) + place) for place in range(len(shape))}
    return {(*base, place): line for place, line in lines.items() if line is not None}


@site_rule(F.group_norm, torch.group_norm)
def groups_of_norm(tracer: Tracer, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> dict[Path, Tensor]:
    """As many groups as channels: their number follows."""
    path: Path = (1,) if len(args) > 1 else ("num_groups",)
    line = along(tracer.labels(out), 1)
    alone = said(None, args, kwargs, path) == out.shape[1]
    return {path: line} if alone and line is not None else {}


@site_rule(Tensor.unflatten, torch.unflatten)
def sizes_of_new_axes(tracer: Tracer, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> dict[Path, Tensor]:
    """Each size is that of one axis of the output."""
    if len(args) < 3 or isinstance(args[1], str):
        return {}
    first = args[1] % args[0].ndim
    lines = {place: along(tracer.labels(out), first + place) for place in range(len(args[2]))}
    if all(line is None for line in lines.values()):
        return {}
    sizes = [torch.zeros(out.shape[first + place], dtype=torch.int64) for place in lines]
    return {(2, i): sizes[i] if line is None else line for i, line in lines.items()}


@site_rule(Tensor.__getitem__, Tensor.__setitem__)
def slice_of_channels(tracer: Tracer, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> dict[Path, Tensor]:
    """Both ends of a slice of an axis of channels count the channels before them, also those said from the end."""
    source, labels, found = args[0], tracer.labels(args[0]), {}
    if not followed(Tensor.__getitem__, args):
        return {}
    for path, axis, entry in slices(args):
        line = along(labels, axis)
        for end in ("start", "stop"):
            n = getattr(entry, end)
            if line is not None and isinstance(n, int) and -source.shape[axis] <= n:
                found[(*path, end)] = line[:n]
    return found


def slices(args: tuple[Any, ...]) -> Iterator[tuple[Path, int, slice]]:
    """Path, axis and slice for every slice in ``x[...]``, whose arguments are these."""
    source, index = args[:2]
    entries = index if isinstance(index, tuple) else (index,)
    rest = source.ndim - sum(e is not None and e is not Ellipsis for e in entries)
    axis = 0
    for place, entry in enumerate(entries):
        if isinstance(entry, slice):
            yield (1, place) if isinstance(index, tuple) else (1,), axis, entry
        axis += rest if entry is Ellipsis else entry is not None


def said(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], path: Path) -> Any:
    """The number that the call says at the path; an end of a slice as counted from the start."""
    value: Any = kwargs if isinstance(path[0], str) else args
    for step in path:
        value = getattr(value, str(step)) if isinstance(value, slice) else value[step]
    if func in _SUBSCRIPTS and isinstance(value, int) and value < 0:
        axis = next(axis for place, axis, _ in slices(args) if place == path[:-1])
        return value + args[0].shape[axis]
    return value


@site_rule(Tensor.narrow, torch.narrow)
def part_of_channels(tracer: Tracer, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> dict[Path, Tensor]:
    """Where the part starts, and its length."""
    if not followed(Tensor.narrow, args):
        return {}
    line = along(tracer.labels(args[0]), args[1] % args[0].ndim)
    start, length = args[2:4]
    return {} if line is None else {(2,): line[:start], (3,): line[start : start + length]}


@site_rule(Tensor.split, torch.split, Tensor.split_with_sizes, torch.split_with_sizes)
def sizes_of_parts(tracer: Tracer, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> dict[Path, Tensor]:
    """Each size counts the channels of its part."""
    axis = int(kwargs.get("dim", args[2] if len(args) > 2 else 0)) % args[0].ndim
    if len(args) < 2:
        return {}
    lines = [along(tracer.labels(part), axis) for part in out]
    if isinstance(args[1], int):
        return {} if lines[0] is None else {(1,): lines[0]}
    return {(1, i): line for i, line in enumerate(lines) if line is not None}


_SPLITS: set[Any] = {Tensor.split, torch.split, Tensor.split_with_sizes, torch.split_with_sizes}
_SUBSCRIPTS: set[Any] = {Tensor.__getitem__, Tensor.__setitem__}
_NARROWS: set[Any] = {Tensor.narrow, torch.narrow}


def followed(func: Any, args: tuple[Any, ...]) -> bool:
    """Whether all integers that cut an axis of channels in this call are recorded."""
    if func in _SUBSCRIPTS:
        entries = args[1] if isinstance(args[1], tuple) else (args[1],)
        return all(e is None or e is Ellipsis or isinstance(e, (int, slice)) for e in entries)
    if func in _NARROWS:
        return len(args) == 4 and all(isinstance(n, int) and n >= 0 for n in args[2:])
    return func in _SPLITS and len(args) > 1


# -- numbers that must stay what they are, though they may be computed from sizes: an attention's scale


_ARITHMETIC = [
    "add", "sub", "subtract", "rsub", "mul", "multiply", "div", "divide", "true_divide", "floor_divide",
    "remainder", "fmod", "pow", "float_power", "lerp", "addcmul", "addcdiv", "clamp", "clip", "clamp_min",
    "clamp_max", "gt", "ge", "lt", "le", "eq", "ne", "masked_fill",
]
_OPERATORS = [
    "add", "radd", "iadd", "sub", "rsub", "isub", "mul", "rmul", "imul", "truediv", "rtruediv", "itruediv", "pow",
    "rpow", "mod", "floordiv",
]
_COMPUTING = [
    getattr(holder, name)
    for holder, names in (
        (Tensor, [*_ARITHMETIC, *(f"{n}_" for n in _ARITHMETIC), *(f"__{n}__" for n in _OPERATORS)]),
        (torch, _ARITHMETIC),
        (F, ["leaky_relu", "elu", "softplus", "threshold", "hardtanh"]),
    )
    for name in names
    if hasattr(holder, name)
]


@site_rule(*_COMPUTING)
def constant_factor(tracer: Tracer, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> dict[Path, Tensor]:
    """A plain number to compute with. It counts nothing; the rehearsal holds it against its old value."""
    return {}


@site_rule(F.pad, torch.constant_pad_nd)
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


@site_rule(F.scaled_dot_product_attention)
def scale_of_attention(tracer: Tracer, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> dict[Path, Tensor]:
    """Nothing is counted here, but the scale must stay: unless said, it follows from the width of a head."""
    return {}


_LISTING = (torch.tensor, Tensor.new_tensor)
_IN_TENSORS = (*_LISTING, torch.full, Tensor.new_full)


@site_rule(*_LISTING)
def number_in_tensor(tracer: Tracer, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> dict[Path, Tensor]:
    """A plain number that becomes a tensor, perhaps to scale by: ``torch.full([], width**0.5)``."""
    return {}


@site_rule(rearrange)
def lengths_of_axes(tracer: Tracer, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> dict[Path, Tensor]:
    """Each length that is said is that of an axis, or of a part of one, of the result or of what comes in."""
    if not isinstance(args[0], Tensor):
        return {}
    before, after = axes_named(args[1])
    sides = [(args[0], before), (out, after)]
    alone = {axes[a][0]: t.shape[a] for t, axes in sides for a in axes if len(axes[a]) == 1}
    lengths = {"1": 1, **alone, **kwargs}
    found: dict[Path, Tensor] = {}
    for tensor, axes in sides:
        labels = tracer.labels(tensor)
        for axis, names in axes.items():
            line = along(labels, axis % tensor.ndim)
            for name, part in _parts_of(line, [lengths.get(n, -1) for n in names], names):
                if name in kwargs:
                    found[name,] = part
    return found


def _parts_of(line: Tensor | None, lengths: Sequence[int], names: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
    """The name and the line of the part of an axis along which its labels vary, if it is but one."""
    if line is None or lengths.count(-1) > 1:
        return
    plane = compact(line.reshape(list(lengths)))
    if len(axes_of(plane)) == 1:
        yield names[axes_of(plane)[0]], plane.reshape(-1)


class _Specials(FunctionMode):
    """Functions inside a call of einops: nothing is recorded there."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self._tracer = tracer

    def called(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return _in_its_way(self._tracer, func, args, kwargs)


def _in_its_way(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The function's result, or that of what runs instead of it."""
    own = SPECIAL.get(func)
    return own(tracer, func, args, kwargs) if own else func(*args, **kwargs)


@special(rearrange)
def inside_einops(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Its parts are labelled as the same parts elsewhere."""
    with _Specials(tracer):
        return func(*args, **kwargs)


class SiteRecorder(FunctionMode):
    """Records, during a trace, every call that a site rule knows."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self._tracer = tracer

    def called(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tracer = self._tracer
        out = self._watched(func, args, kwargs)
        if tracer.held and author_site() in tracer.held:
            site = author_site()
            for leaf in tree_leaves((args, kwargs, out)):
                if isinstance(leaf, Tensor) and not tracer.stored(leaf):
                    tracer.freeze(tracer.labels(leaf).planes, tracer.held[site], site)
        return out

    def _watched(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._tracer.integers_follow = followed(func, args)
        out = _in_its_way(self._tracer, func, args, kwargs)
        self._tracer.integers_follow = False
        with unwatched(), WithoutTorchDispatch():
            self._record(func, args, kwargs, out)
        return out

    def _record(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        if in_stand_in():
            return
        if isinstance(out, Tensor):
            self._tracer.stepped(name_of(func))
        finder = SITE_RULES.get(func)
        if finder is not None:
            counts = {p: line.numpy() for p, line in finder(self._tracer, args, kwargs, out).items()}
            module = self._tracer.modules.current
            held = {p: n for p, n in constants(func, args, kwargs).items() if p not in counts}
            self._tracer.site_calls.append(SiteCall(name_of(func), module, author_site(), here(), counts, held))


def constants(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[Path, float]:
    """The plain numbers to compute with among the arguments, and the scale that an attention doesn't say."""
    whole = func in _IN_TENSORS or SITE_RULES.get(func) in (constant_factor, groups_of_norm)
    kinds = (int, float) if whole else (float,)
    keyed: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
    given: list[tuple[Path, Any]] = [((key,), value) for key, value in keyed]
    if func in _LISTING:
        listed = [(key, value) for key, value in keyed if isinstance(value, (tuple, list))]
        given += [((key, i), v) for key, value in listed for i, v in enumerate(value)]
    plain = ((path, value.item() if isinstance(value, np.generic) else value) for path, value in given)
    found: dict[Path, float] = {path: value for path, value in plain if type(value) in kinds}
    if func is F.scaled_dot_product_attention and kwargs.get("scale") is None:
        query = args[0] if args else kwargs["query"]
        found["scale",] = query.shape[-1] ** -0.5
    return found


def here() -> Span:
    frame = author_frame()
    return span(frame) if frame is not None else (0, 0, 0, 0)
