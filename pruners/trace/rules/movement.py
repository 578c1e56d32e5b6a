"""Data movement: the labels go where the elements go."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import Tensor

from ...places import Site
from ...run import span_of, tree_leaves, tree_of
from ..labelling import Call, Labels, Planes, Tracer, axes_of, compact
from .registry import freeze_axes, rule, unknown

_VIEWS = {"view", "_unsafe_view", "reshape", "_reshape_alias", "flatten"}
_KEEP_ORDER = _VIEWS | {"detach", "alias", "contiguous", "squeeze", "unsqueeze", "resolve_conj", "resolve_neg"}


def moved(tracer: Tracer, call: Call, source: Tensor) -> list[list[Tensor]]:
    """For every plane of the source, the labels after the same movement: one list of outputs per plane."""
    results = []
    for plane in tracer.labels(source).planes:
        full = plane.expand(source.shape)
        if call.name in _VIEWS:  # labels need no strides, so a view of them may copy
            out: Any = full.reshape(call.outputs[0].shape)
        else:
            out = call.op(*(full if a is source else a for a in call.args), **call.kwargs)
        results.append([compact(t) for t in tree_leaves(out) if isinstance(t, Tensor)])
    return results


def put(tracer: Tracer, call: Call, results: list[list[Tensor]], weight: str | None) -> None:
    """Label every output with its planes."""
    for number, out in enumerate(call.outputs):
        planes: list[Tensor] = []
        for result in results:
            plane = result[number]
            if len(axes_of(plane)) > 1:
                plane = split(tracer, call, plane)
            if any(axes_of(plane) == axes_of(p) for p in planes):
                tracer.freeze((plane,), f"{call.name} merges two axes of channels", call.site)
            elif axes_of(plane):
                planes.append(plane)
        tracer.label(out, Labels(tuple(planes), weight))


def split(tracer: Tracer, call: Call, plane: Tensor) -> Tensor:
    """One axis of channels was laid over several: tie them so that the labels vary along one axis only."""
    axes = axes_of(plane)
    made = tracer.splits.new(tracer.modules.current, call.site)
    keep = plane.ndim - 3 if call.name == "pixel_shuffle" else tracer.splits.axis(made, axes)
    line = plane
    for axis in axes:
        if axis != keep:
            line = line.narrow(axis, 0, 1)
    tracer.tie(plane, line.expand(plane.shape), "equal blocks", call.site)
    if bool((line == 0).any()):
        tracer.freeze((plane,), f"{call.name} splits an axis of which a part must stay", call.site)
    if call.name != "pixel_shuffle":
        tracer.splits.made(made, line, axes)
    return compact(line)


@rule("view", "_unsafe_view", "reshape", "permute", "transpose", "t", "expand", "squeeze", "unsqueeze", "alias",
      "detach", "contiguous", "_reshape_alias", "unfold", "flatten", "pixel_shuffle", "mT", "numpy_T",
      "pixel_unshuffle", "resolve_conj", "resolve_neg", "flip", "repeat")  # fmt: skip
def movement(tracer: Tracer, call: Call) -> None:
    """Data movement: the same operation on the labels."""
    source = call.args[0]
    name = tracer.flat_name(source)
    if name is not None and call.name in _KEEP_ORDER and _flat_movement(tracer, call, name):
        return
    spread = name if sum(n > 1 for n in call.outputs[0].shape) > 1 else None
    if call.name in _VIEWS and call.outputs[0].numel():
        _hold_laid_across(tracer, call, source)
    put(tracer, call, moved(tracer, call, source), tracer.labels(source).weight or spread)


def _hold_laid_across(tracer: Tracer, call: Call, source: Tensor) -> None:
    """Channels that a view lays over places, as ``(pixels, channels)`` seen as ``(channels, pixels)``, must stay: which
    go together would change with the number of pixels."""
    out, labels = call.outputs[0].shape, tracer.labels(source)
    held = []
    for here, there in _runs(source.shape, out):
        for plane in labels.planes if sum(out[a] > 1 for a in there) > 1 else ():
            mine = set(axes_of(plane))
            if mine & set(here) and _across(tracer, source.shape, here, mine, [out[a] for a in there]):
                held.append(plane)
    tracer.freeze(held, f"{call.name} lays channels over axes of pixels or tokens", call.site)
    if held:
        tracer.label(source, replace(labels, planes=tuple(p for p in labels.planes if not any(p is h for h in held))))


def _across(tracer: Tracer, shape: Sequence[int], here: Sequence[int], mine: set[int], after: Sequence[int]) -> bool:
    """Whether places around the channels do not come out around them, as those do where tokens of a batch join with
    heads. Examples come first in memory, so that any number of them lies the same."""
    places = {a for a in here if a not in mine and shape[a] != tracer.batch}
    outer = prod(shape[a] for a in places if a < min(mine))
    inner = prod(shape[a] for a in places if a > max(mine))
    lengths = [n for n in after if n > 1]
    behind, before = prod(lengths[1:]), prod(lengths[:-1])
    return (outer > 1 and (bool(lengths[0] % outer) or behind == outer)) or (
        inner > 1 and (bool(lengths[-1] % inner) or before == inner)
    )


def _runs(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The axes of a view and of what it gives, in the smallest runs that hold the same elements."""
    runs, rest = [], list(range(len(after)))
    here: list[int] = []
    there: list[int] = []
    for axis in range(len(before)):
        here.append(axis)
        wanted = prod(before[a] for a in here)
        while rest and prod(after[a] for a in there) < wanted:
            there.append(rest.pop(0))
        if prod(after[a] for a in there) == wanted:
            runs.append((here, there))
            here, there = [], []
    return runs


def _flat_movement(tracer: Tracer, call: Call, name: str) -> bool:
    """A parameter in one line: it stays so, or is viewed as filters. Whether its channels are known, and are put."""
    out = call.outputs[0]
    if sum(n > 1 for n in out.shape) < 2:
        tracer.flat.stays(call, name)
    else:
        tracer.flat.viewed(name, out)
    shape = tracer.flat.shapes.get(name)
    if shape is not None and sum(n > 1 for n in out.shape) > 1:
        planes = [[compact(p.expand(shape).reshape(out.shape))] for p in tracer.flat_planes(name)]
        put(tracer, call, planes, name)
    return shape is not None


@rule("transpose_", "t_", "swapaxes_", "swapdims_", "unsqueeze_", "squeeze_")
def moved_in_place(tracer: Tracer, call: Call) -> None:
    """The same on the labels; an axis of size 1 is all that comes or goes."""
    source, planes = call.args[0], []
    for plane in tracer.labels(source).planes:
        own = plane.clone()
        changed = plane.ndim != source.ndim or call.name not in {"unsqueeze_", "squeeze_"}
        planes.append(call.op(own, *call.args[1:], **call.kwargs) if changed else own)
    stuck = [p for p in planes if p.ndim != source.ndim]
    tracer.freeze(stuck, f"{call.name} squeezes it", call.site)
    tracer.label(source, Labels(tuple(p for p in planes if p.ndim == source.ndim)))


@rule("channel_shuffle", "native_channel_shuffle")
def shuffle(tracer: Tracer, call: Call) -> None:
    """Channels move between equal groups, which have to stay equal: they lose the same ones."""
    source, groups = call.args[0], int(call.arg(1, "groups"))
    for plane in (p for p in tracer.labels(source).planes if axes_of(p) == (1,)):
        blocks = plane.reshape(groups, -1)
        tracer.tie(blocks, blocks[:1].expand(blocks.shape), "equal groups", call.site)
    put(tracer, call, moved(tracer, call, source), tracer.labels(source).weight)


@rule("as_strided_")
def laid_out(tracer: Tracer, call: Call) -> None:
    """Pooling gives its result another memory format this way: strides that differ for axes of size 1 only."""
    shape = tuple(call.args[1])
    moved_axes = [a for a, n in enumerate(shape) if n > 1 and call.args[2][a] != call.strides[a]]
    planes = tracer.labels(call.args[0]).planes
    if moved_axes or len(call.args) > 3 or any(len(p.shape) != len(shape) for p in planes):
        unknown(tracer, call)


@rule("slice", "select", "narrow", "split", "split_with_sizes", "chunk", "unbind", "unsafe_split",
      "unsafe_chunk", "tensor_split", "unsafe_split_with_sizes")  # fmt: skip
def positional(tracer: Tracer, call: Call) -> None:
    """Taking positions from an axis. Equal parts stay equal: their channels go together. Unequal parts, and slices,
    pass where the call's integers are known to follow the widths; else the axis's channels must stay."""
    source = call.args[0]
    axis = _split_axis(call, source)
    if call.name == "select":
        _one_position(tracer, call, source, axis)
        return
    lengths = {out.shape[axis] for out in call.outputs} if call.name != "unbind" else set()
    if any(tuple(out.shape) != tuple(source.shape) for out in call.outputs):
        if len(lengths) == 1 and len(call.outputs) > 1:
            for plane in (p for p in tracer.labels(source).planes if axis in axes_of(p)):
                parts = plane.reshape(-1).reshape(len(call.outputs), -1)
                tracer.tie(parts, parts[:1].expand(parts.shape), "equal parts", call.site)
        elif not (tracer.integers_follow and min(lengths, default=1) > 1 and _plain_ends(call)):
            reason = f"{call.name} takes positions of the axis"
            tracer.label(source, freeze_axes(tracer, tracer.labels(source), {axis}, reason, call.site))
    put(tracer, call, moved(tracer, call, source), tracer.labels(source).weight)


def _one_position(tracer: Tracer, call: Call, source: Tensor, axis: int) -> None:
    """One channel alone: all of its axis must stay if anything reads it, not if code asks for its size."""
    reason, labels, out = "select takes positions of the axis", tracer.labels(source), call.outputs[0]
    taken = tuple(p for p in labels.planes if axes_of(p) == (axis,))
    left = Labels(tuple(p for p in labels.planes if not any(p is t for t in taken)))
    tracer.label(source, Labels((*freeze_axes(tracer, left, {axis}, reason, call.site).planes, *taken), labels.weight))
    put(tracer, call, moved(tracer, call, source), None if taken else labels.weight)
    if taken:
        tracer.label(out, replace(tracer.labels(out), numbered=taken, because=reason))


def _plain_ends(call: Call) -> bool:
    """Not ``x[:, ::2]``."""
    return call.name != "slice" or call.arg(4, "step", 1) == 1


def _split_axis(call: Call, source: Tensor) -> int:
    first = call.name in {"slice", "select", "narrow", "unbind"}
    return int(call.arg(1 if first else 2, "dim", 0)) % max(1, source.ndim)


@rule("roll", "index_select", "repeat_interleave", "index", "rot90")
def indexed(tracer: Tracer, call: Call) -> None:
    """Reordering or picking along an axis freezes that axis's channels; channels on other axes pass."""
    source = call.args[0]
    labels = tracer.labels(source)
    axes = _indexed_axes(call, source)
    left = freeze_axes(tracer, labels, axes, f"{call.name} reorders the axis", call.site)
    if call.name == "index" and any(i is not None for i in call.args[1][:-1]):
        left = freeze_axes(tracer, left, set(range(source.ndim)), "index moves several axes", call.site)
    tracer.label(source, left)
    put(tracer, call, moved(tracer, call, source), None)


def _indexed_axes(call: Call, source: Tensor) -> set[int]:
    if call.name == "index":
        return {a for a, i in enumerate(call.args[1]) if i is not None}
    given = call.arg(2, "dims", None) if call.name in {"roll", "rot90"} else call.arg(1, "dim", None)
    if given is None:
        return set(range(source.ndim))
    return {int(d) % source.ndim for d in (given if isinstance(given, (list, tuple)) else [given])}


@rule("cat", "stack", "_cat")
def concatenate(tracer: Tracer, call: Call) -> None:
    """Concatenate along the axis, unite along the others."""
    given = call.args[0]  # of tensors without elements torch takes any beside others
    tensors = [t for t in given if t.numel()] or [t for t in given if t.ndim == max(o.ndim for o in given)]
    out = call.outputs[0]
    axis = int(call.arg(1, "dim", 0)) % out.ndim
    stacked = call.name == "stack"
    if stacked:
        tensors = [tracer.label(t.unsqueeze(axis), _lifted(tracer.labels(t), axis)) for t in tensors]
    lists, others = [], []
    for tensor in tensors:
        here = [p for p in tracer.labels(tensor).planes if axis in axes_of(p)]
        joint = [p for p in here if len(axes_of(p)) > 1]
        tracer.freeze(tuple(joint), "cat along one axis of a pair", call.site)
        line = here[0].reshape(-1) if here and not joint else torch.zeros(tensor.shape[axis], dtype=torch.int64)
        lists.append(line)
        others.append(Labels(tuple(p for p in tracer.labels(tensor).planes if axis not in axes_of(p))))
    planes = list(_united(tracer, tensors, others, axis, call))
    line = torch.cat(lists)
    if bool((line != 0).any()) and line.numel() > 1:
        shape = [1] * out.ndim
        shape[axis] = line.numel()
        planes.append(line.reshape(shape))
    tracer.label(out, Labels(tuple(planes)))


def _lifted(labels: Labels, axis: int) -> Labels:
    return Labels(tuple(p.unsqueeze(axis) for p in labels.planes), None)


def _united(tracer: Tracer, tensors: Sequence[Tensor], labels: Sequence[Labels], axis: int, call: Call) -> Planes:
    """Planes on the axes that are not concatenated: equal in every operand, or they must stay."""
    kept: dict[tuple[int, ...], Tensor] = {}
    for found in labels:
        for plane in found.planes:
            kept.setdefault(axes_of(plane), plane)
    for axes, plane in list(kept.items()):
        for found in labels:
            partner = next((p for p in found.planes if axes_of(p) == axes), None)
            if partner is None:
                tracer.freeze((plane,), f"{call.name} joins it with channels that must stay", call.site)
            else:
                tracer.tie(plane, partner, call.name, call.site)
    return tuple(kept.values())


@rule("constant_pad_nd")
def pad(tracer: Tracer, call: Call) -> None:
    """Padding an axis of channels makes fresh removable channels; other axes pass. Where the code says one number for
    both ends, as many stay at both."""
    source, amounts = call.args[0], call.args[1]
    out = call.outputs[0]
    planes = []
    for plane in tracer.labels(source).planes:
        axes = axes_of(plane)
        padded = [a for a in axes if any(_amounts(amounts, source.ndim, a))]
        if not padded:
            planes.append(plane)
        elif len(axes) > 1 or min(_amounts(amounts, source.ndim, axes[0])) < 0:
            tracer.freeze((plane,), "a padding that crops channels", call.site)
        else:
            before, after = _amounts(amounts, source.ndim, axes[0])
            line = [tracer.virtual("padding", n, call.site) for n in (before, after)]
            if before == after and _one_number(call.site, 2 * (source.ndim - 1 - axes[0]) - len(amounts)):
                tracer.uniform(torch.stack(line), "a padding by one number at both ends", call.site)
            axis_shape = [1] * source.ndim
            axis_shape[axes[0]] = -1
            planes.append(torch.cat([line[0], plane.reshape(-1), line[1]]).reshape(axis_shape))
    tracer.label(out, Labels(tuple(planes)))


def _one_number(site: Site, place: int) -> bool:
    """Whether a call that pads says the same before and behind, at this place of its list and the next; also where
    it has no list, or none that tells the two apart."""
    tree = tree_of(site.file) if site.file else None
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and span_of(n) == site.span] if tree else []
    lists = [n.elts for call in calls for n in ast.walk(call) if isinstance(n, ast.Tuple | ast.List)]
    ends = [e[place : place + 2 or None] for e in lists if len(e) >= -place]
    starred = any(isinstance(e, ast.Starred) for elements in lists for e in elements)
    return not starred and all(ast.dump(a) == ast.dump(b) for a, b in ends)


def _amounts(amounts: Sequence[int], ndim: int, axis: int) -> tuple[int, int]:
    place = 2 * (ndim - 1 - axis)
    return (amounts[place], amounts[place + 1]) if place < len(amounts) else (0, 0)
