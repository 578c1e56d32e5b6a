"""How labels pass through operations: one small rule per kind of operation, in a registry.

A rule is called after the operation ran, as ``rule(tracer, call)``, and labels the call's outputs. It may state
facts (ties, freezes). An operation without a rule freezes every label it touches: never wrong silently.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from pruners.channel_graph import Site
from pruners.labels import NONE, Labels, Planes, align, axes_of, compact, touching

if TYPE_CHECKING:
    from pruners.tracing import Tracer

aten = torch.ops.aten


@dataclass(frozen=True)
class Call:
    """One executed operation."""

    op: torch._ops.OpOverload
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: Any
    site: Site

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


Rule = Callable[["Tracer", Call], None]
RULES: dict[Any, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for every overload of the named aten operations."""

    def register(function: Rule) -> Rule:
        for name in names:
            packet = getattr(aten, name, None)  # an operation that this torch doesn't have needs no rule
            if packet is not None:
                RULES[packet] = function
        return function

    return register


def rule_for(op: torch._ops.OpOverload) -> Rule:
    found = RULES.get(op.overloadpacket)
    if found is None and torch.Tag.pointwise in op.tags:
        found = pointwise
    return found or unknown


def unknown(tracer: Tracer, call: Call) -> None:
    """No rule: everything the operation reads must stay."""
    for tensor in call.tensors:
        tracer.freeze(tracer.labels(tensor).planes, f"no rule for the operation {call.name}", call.site)


def freeze_axes(tracer: Tracer, labels: Labels, axes: set[int], reason: str, site: Site) -> Labels:
    """Freeze the planes that vary along these axes; what is left of the labels."""
    stuck = touching(labels, axes)
    tracer.freeze(tuple(stuck), reason, site)
    return Labels(tuple(p for p in labels.planes if not axes & set(axes_of(p))), labels.weight)


# ---------------------------------------------------------------------------------------------- element-wise


def pointwise(tracer: Tracer, call: Call) -> None:
    """Element-wise operations join the labels of their operands."""
    for out in call.outputs:
        tracer.label(out, join(tracer, call.tensors, out, call.name, call.site))


def join(tracer: Tracer, operands: Sequence[Tensor], out: Tensor, name: str, site: Site) -> Labels:
    """Unite the operands' planes, aligned as broadcasting aligns them."""
    found = [tracer.labels(t) for t in operands]
    planes = [(i, align(p, out.ndim)) for i, labels in enumerate(found) for p in labels.planes]
    sizes = [(1,) * (out.ndim - t.ndim) + tuple(t.shape) for t in operands]
    kept: list[Tensor] = []
    for owner, plane in planes:
        axes = set(axes_of(plane))
        for other, size in enumerate(sizes):
            varies = any(size[a] > 1 for a in axes)
            if other == owner or not varies:
                continue
            partners = [q for i, q in planes if i == other and axes & set(axes_of(q))]
            if not partners:
                tracer.freeze((plane,), f"{name} joins it with a tensor whose channels are unknown", site)
            for partner in partners:
                meet(tracer, plane, partner, name, site)
        if not any(axes <= set(axes_of(k)) for k in kept):
            kept = [k for k in kept if not set(axes_of(k)) <= axes] + [plane]
    weights = {labels.weight for labels, t in zip(found, operands, strict=True) if t.ndim > 1 and labels.weight}
    foreign = any(t.ndim > 1 and not f.weight for t, f in zip(operands, found, strict=True))
    return Labels(tuple(kept), weights.pop() if len(weights) == 1 and not foreign else None)


def meet(tracer: Tracer, plane: Tensor, partner: Tensor, name: str, site: Site) -> None:
    """Two planes label the same elements: unite them where one's axes hold the other's, else both must stay."""
    a, b = set(axes_of(plane)), set(axes_of(partner))
    if a <= b or b <= a:
        tracer.tie(plane, partner, name, site)
    else:
        tracer.freeze((plane, partner), f"{name} mixes two kinds of channels on one axis", site)


rule("hardswish", "_prelu_kernel", "hardswish_", "rrelu_with_noise", "clone", "_to_copy", "copy_", "lerp")(pointwise)


@rule("native_dropout", "bernoulli_", "bernoulli", "fill_", "zero_", "uniform_", "normal_", "zeros_like", "ones_like",
      "full_like", "empty_like", "rand_like", "randn_like")  # fmt: skip
def same_shape(tracer: Tracer, call: Call) -> None:
    """The outputs have the first operand's shape, element by element."""
    for out in call.outputs:
        tracer.label(out, Labels(tracer.labels(call.tensors[0]).planes))


@rule("zeros", "ones", "full", "empty", "new_zeros", "new_ones", "new_full", "new_empty", "rand", "randn", "arange",
      "scalar_tensor", "lift_fresh", "lift_fresh_copy", "randperm", "randint", "linspace", "_local_scalar_dense",
      "is_nonzero", "empty_strided", "new_empty_strided")  # fmt: skip
def fresh(tracer: Tracer, call: Call) -> None:
    """Tensors made from nothing carry no channels."""


# ---------------------------------------------------------------------------------------------- data movement


_VIEWS = {"view", "_unsafe_view", "reshape", "_reshape_alias", "flatten"}


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
    """Label every output with its planes; a plane that was split over two axes must stay."""
    for number, out in enumerate(call.outputs):
        planes = []
        for result in results:
            plane = result[number]
            if len(axes_of(plane)) > 1:
                tracer.freeze((plane,), f"{call.name} lays one axis of channels over several", call.site)
            elif axes_of(plane):
                planes.append(plane)
        tracer.label(out, Labels(tuple(planes), weight))


@rule("view", "_unsafe_view", "reshape", "permute", "transpose", "t", "expand", "squeeze", "unsqueeze", "alias",
      "detach", "contiguous", "_reshape_alias", "view_as_real", "unfold", "flatten", "pixel_shuffle", "mT", "numpy_T",
      "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle", "resolve_conj", "resolve_neg")  # fmt: skip
def movement(tracer: Tracer, call: Call) -> None:
    """Data movement: the same operation on the labels."""
    source = call.args[0]
    put(tracer, call, moved(tracer, call, source), tracer.labels(source).weight)


@rule("slice", "select", "narrow", "split", "split_with_sizes", "chunk", "unbind", "unsafe_split",
      "unsafe_chunk", "tensor_split", "unsafe_split_with_sizes")  # fmt: skip
def positional(tracer: Tracer, call: Call) -> None:
    """Taking positions from an axis: its channels must stay (the positions would go stale), the others move."""
    source = call.args[0]
    axis = _split_axis(call, source)
    if any(tuple(out.shape) != tuple(source.shape) for out in call.outputs):
        left = freeze_axes(tracer, tracer.labels(source), {axis}, f"{call.name} takes positions of the axis", call.site)
        tracer.label(source, left)
    put(tracer, call, moved(tracer, call, source), tracer.labels(source).weight)


def _split_axis(call: Call, source: Tensor) -> int:
    first = call.name in {"slice", "select", "narrow", "unbind"}
    return int(call.arg(1 if first else 2, "dim", 0)) % max(1, source.ndim)


@rule("flip", "roll", "index_select", "gather", "repeat", "repeat_interleave", "index", "rot90")
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
    if call.name == "repeat":
        times = call.args[1]
        lead = len(times) - source.ndim
        return {a for a in range(source.ndim) if times[a + lead] > 1}
    given = call.arg(2, "dims", None) if call.name in {"roll", "rot90"} else call.arg(1, "dim", None)
    if given is None:
        return set(range(source.ndim))
    return {int(d) % source.ndim for d in (given if isinstance(given, (list, tuple)) else [given])}


@rule("cat", "stack", "_cat")
def concatenate(tracer: Tracer, call: Call) -> None:
    """Concatenate along the axis, unite along the others."""
    tensors = [t for t in call.args[0] if t.numel()]
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
    """Padding an axis of channels makes fresh removable channels; other axes pass."""
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
            axis_shape = [1] * source.ndim
            axis_shape[axes[0]] = -1
            planes.append(torch.cat([line[0], plane.reshape(-1), line[1]]).reshape(axis_shape))
    tracer.label(out, Labels(tuple(planes)))


def _amounts(amounts: Sequence[int], ndim: int, axis: int) -> tuple[int, int]:
    place = 2 * (ndim - 1 - axis)
    return (amounts[place], amounts[place + 1]) if place < len(amounts) else (0, 0)


# ---------------------------------------------------------------------------------------------- along an axis


@rule("sum", "mean", "amax", "amin", "var", "var_mean", "std", "std_mean", "prod", "any", "all", "argmax", "argmin",
      "max", "min", "norm", "linalg_vector_norm", "logsumexp", "median", "count_nonzero")  # fmt: skip
def reduction(tracer: Tracer, call: Call) -> None:
    """A reduction over an axis of channels mixes them: they must stay. Other axes pass."""
    source = call.args[0]
    if len(call.tensors) > 1:  # max(a, b)
        pointwise(tracer, call)
        return
    axes = _reduced(call, source)
    left = freeze_axes(tracer, tracer.labels(source), axes, f"{call.name} runs over the channels", call.site)
    for out in call.outputs:
        keep = out.ndim == source.ndim
        drop = sorted(axes, reverse=True)
        planes = []
        for plane in left.planes:
            for axis in () if keep else drop:
                plane = plane.squeeze(axis)
            planes.append(plane)
        tracer.label(out, Labels(tuple(planes)))


def _reduced(call: Call, source: Tensor) -> set[int]:
    place = 2 if call.name in {"norm", "linalg_vector_norm"} else 1
    names = {"dim", "correction"}
    given = call.kwargs.get("dim", call.args[place] if len(call.args) > place else None)
    if given is None or given == [] or not names or isinstance(given, bool):
        return set(range(source.ndim))
    return {int(d) % max(1, source.ndim) for d in (given if isinstance(given, (list, tuple)) else [given])}


@rule("_softmax", "_log_softmax", "softmax", "log_softmax", "cumsum", "cumprod", "sort", "topk", "glu", "logcumsumexp",
      "renorm", "kthvalue", "_safe_softmax")  # fmt: skip
def along_axis(tracer: Tracer, call: Call) -> None:
    """An operation that runs along one axis: channels there must stay, the others pass."""
    source = call.args[0]
    place = 2 if call.name in {"topk", "kthvalue"} else 1
    default = -1
    axis = int(call.arg(place, "dim", default)) % max(1, source.ndim)
    left = freeze_axes(tracer, tracer.labels(source), {axis}, f"{call.name} runs along the channels", call.site)
    for out in call.outputs:
        tracer.label(out, Labels(left.planes))


def spatial(n: int) -> Rule:
    """An operation over the last n axes: channels on earlier axes pass, channels on those must stay."""

    def apply(tracer: Tracer, call: Call) -> None:
        source = call.args[0]
        axes = set(range(source.ndim - n, source.ndim))
        left = freeze_axes(tracer, tracer.labels(source), axes, f"{call.name} runs over the channels", call.site)
        for out in call.outputs:
            tracer.label(out, Labels(left.planes))

    return apply


rule("avg_pool1d", "max_pool1d", "adaptive_avg_pool1d", "upsample_nearest1d", "upsample_linear1d",
     "reflection_pad1d", "replication_pad1d")(spatial(1))  # fmt: skip
rule("max_pool2d_with_indices", "max_pool2d", "avg_pool2d", "_adaptive_avg_pool2d", "adaptive_avg_pool2d",
     "adaptive_max_pool2d", "upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d", "reflection_pad2d",
     "replication_pad2d", "_upsample_nearest_exact2d", "_upsample_bilinear2d_aa", "fractional_max_pool2d",
     "mkldnn_max_pool2d")(spatial(2))  # fmt: skip
rule("max_pool3d_with_indices", "avg_pool3d", "_adaptive_avg_pool3d", "adaptive_max_pool3d", "upsample_nearest3d",
     "upsample_trilinear3d", "reflection_pad3d", "replication_pad3d")(spatial(3))  # fmt: skip


# ---------------------------------------------------------------------------------------------- normalisation


@rule("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "cudnn_batch_norm")
def batch_norm(tracer: Tracer, call: Call) -> None:
    """One value per channel (axis 1) in weight, bias, running mean and running variance."""
    _per_channel(tracer, call, call.args[0], call.args[1:5], 1)
    tracer.label(call.outputs[0], Labels(tracer.labels(call.args[0]).planes))


def _per_channel(tracer: Tracer, call: Call, source: Tensor, stored: Sequence[Tensor | None], axis: int) -> None:
    """Unite the channels of the source with parameters that hold one value per channel."""
    here = touching(tracer.labels(source), {axis})
    for vector in (v for v in stored if v is not None):
        there = tracer.labels(vector).planes
        if not here or not there:
            tracer.freeze((*here, *there), f"{call.name} joins it with channels that must stay", call.site)
        for plane in here:
            for other in there:
                tracer.tie(plane.reshape(-1), other.reshape(-1), call.name, call.site)


@rule("native_layer_norm")
def layer_norm(tracer: Tracer, call: Call) -> None:
    """Statistics over the last axes: with one axis of channels they run over what is kept."""
    source, shape = call.args[0], call.args[1]
    axes = set(range(source.ndim - len(shape), source.ndim))
    labels = tracer.labels(source)
    if len(shape) > 1 or any(len(axes_of(p)) > 1 for p in touching(labels, axes)):
        labels = freeze_axes(tracer, labels, axes, "a layer norm over several axes", call.site)
        for vector in (v for v in call.args[2:4] if v is not None):
            tracer.freeze(tracer.labels(vector).planes, "a layer norm over several axes", call.site)
    else:
        _per_channel(tracer, call, source, call.args[2:4], source.ndim - 1)
        tracer.statistic(tuple(touching(labels, axes)))
    tracer.label(call.outputs[0], Labels(labels.planes))


@rule("native_group_norm")
def group_norm(tracer: Tracer, call: Call) -> None:
    """Statistics within each of ``group`` blocks of channels: blocks keep equally many."""
    source, groups = call.args[0], int(call.args[6])
    _per_channel(tracer, call, source, call.args[1:3], 1)
    labels = tracer.labels(source)
    for plane in touching(labels, {1}):
        tracer.statistic((plane,))
        tracer.uniform(plane.reshape(groups, -1), "a group norm", call.site)
    tracer.label(call.outputs[0], Labels(labels.planes))


@rule("embedding")
def embedding(tracer: Tracer, call: Call) -> None:
    """Rows are looked up by number and must stay; columns are channels."""
    table, index = call.args[0], call.args[1]
    left = freeze_axes(tracer, tracer.labels(table), {0}, "embedding looks rows up by number", call.site)
    shape = (1,) * index.ndim + (-1,)
    tracer.label(call.outputs[0], Labels(tuple(p.reshape(shape) for p in left.planes)))
    for plane in left.planes:
        tracer.produced(plane)


def all_rules() -> dict[str, Rule]:
    """Operation name -> rule, for listings and tests."""
    return {packet.__name__: function for packet, function in RULES.items()}


__all__ = ["NONE", "RULES", "Call", "Rule", "all_rules", "rule", "rule_for"]
