"""Rules for convolutions and matrix products: they end the life of their input's channels and begin new ones."""

from __future__ import annotations

import torch
from torch import Tensor

from ..labelling import Call, Labels, Tracer, along, axes_of, on_axis, touching
from .registry import rule, unknown

_UNKNOWN = "reads the network's input, or channels that must stay"


@rule("convolution", "_convolution")
def convolution(tracer: Tracer, call: Call) -> None:
    """Bind the input's channels to the weight's input slots; the output's channels are its output slots."""
    x, weight, bias = call.args[:3]
    transposed, groups = bool(call.args[6]), int(call.args[8])
    axis = x.ndim - (weight.ndim - 2) - 1
    labels = tracer.labels(x)
    beside = [p for p in labels.planes if len(axes_of(p)) == 1 and axes_of(p)[0] in _pointwise_axes(call, axis)]
    for plane in (p for p in labels.planes if axes_of(p) != (axis,) and not any(p is q for q in beside)):
        tracer.freeze((plane,), "a convolution slides over the axis", call.site)
    out_axis, in_axis = (1, 0) if transposed else (0, 1)
    per_group = weight.shape[in_axis] // (groups if transposed else 1)
    known = along(labels, axis)
    if known is None:
        tracer.freeze((tracer.axis(weight, in_axis, 1 if transposed else groups),), _UNKNOWN, call.site)
    incoming = known if known is not None else torch.zeros(x.shape[axis], dtype=torch.int64)
    depthwise = groups > 1 and per_group == 1
    outgoing = _conv_out(tracer, weight, groups, in_axis if depthwise and transposed else out_axis, transposed)
    if depthwise:
        _depthwise(tracer, call, incoming, outgoing)
    else:
        if known is not None:
            _bind_in(tracer, call, weight, incoming.reshape(groups, -1), in_axis, transposed)
            if not tracer.stored(weight):
                tracer.reads(call, incoming, axis)
        if _fixed_scale(weight):
            tracer.tie(tracer.axis(weight, in_axis), outgoing, "a fixed scale of each channel", call.site)
        if groups > 1:
            reason = "a grouped convolution"
            tracer.uniform(incoming.reshape(groups, -1), reason, call.site)
            tracer.uniform(outgoing.reshape(groups, -1), reason, call.site)
    for plane in tracer.labels(bias).planes if bias is not None else ():
        tracer.tie(outgoing, plane.reshape(-1), "bias", call.site)
    out = call.outputs[0]
    if not tracer.stored(weight):
        tracer.no_channels(touching(tracer.labels(weight), set(range(2, weight.ndim))))
    tracer.produced(outgoing)
    tracer.label(out, Labels((*beside, *((on_axis(outgoing, axis, out.ndim),) if outgoing.numel() > 1 else ()))))


def _pointwise_axes(call: Call, axis: int) -> set[int]:
    """The axes behind that of the channels along which every position of the output reads one of the input."""
    sizes, n = call.args[1].shape[2:], call.args[1].ndim - 2
    strides, padding = (tuple(a) * (n if len(a) == 1 else 1) for a in call.args[3:5])
    extra = tuple(call.args[7]) * (n if len(call.args[7]) == 1 else 1)
    return {axis + 1 + i for i in range(n) if (sizes[i], strides[i], padding[i], extra[i]) == (1, 1, 0, 0)}


def _fixed_scale(weight: Tensor) -> bool:
    """Whether a weight that isn't trained only scales channels, each by itself, as the means of colours are taken off
    by a convolution with a unit matrix: it ends no channel's life."""
    matrix = weight.flatten(1)
    return not weight.requires_grad and matrix.shape[0] == matrix.shape[1] > 1 and bool(
        (matrix == matrix.diagonal().diag()).all() and matrix.diagonal().all()
    )  # fmt: skip


def _depthwise(tracer: Tracer, call: Call, incoming: Tensor, outgoing: Tensor) -> None:
    """Channel c makes the m outputs of block c: they go together."""
    repeated = incoming.repeat_interleave(outgoing.numel() // incoming.numel())
    tracer.tie(repeated, outgoing, "depth-wise convolution", call.site)


def _conv_out(tracer: Tracer, weight: Tensor, groups: int, axis: int, transposed: bool) -> Tensor:
    """Labels of the output channels. A transposed grouped weight stores one list for all groups."""
    plane = tracer.axis(weight, axis)
    if transposed and axis == 0:  # depth-wise: channel c makes a block of outputs
        return plane.repeat_interleave(weight.shape[1])
    return plane.repeat(groups) if transposed and groups > 1 else plane


def _bind_in(tracer: Tracer, call: Call, weight: Tensor, incoming: Tensor, axis: int, transposed: bool) -> None:
    """incoming has shape (groups, channels per group)."""
    groups = incoming.shape[0]
    if transposed:
        stored = tracer.axis(weight, axis).reshape(groups, -1)
    else:
        stored = tracer.axis(weight, axis, blocks=groups).reshape(groups, -1)
    tracer.tie(incoming, stored, "read by", call.site)
    tracer.consumed(weight, stored, incoming)


@rule("torchvision::deform_conv2d")
def deformable_convolution(tracer: Tracer, call: Call) -> None:
    """A convolution that reads at places of its own: offsets and masks have theirs for each position of the kernel."""
    x, weight, offset, mask, bias = call.args[:5]
    groups, offset_groups, out = int(call.args[11]), int(call.args[12]), call.outputs[0]
    for tensor in (offset, mask):
        tracer.freeze(tracer.labels(tensor).planes, f"{call.name} takes places from it", call.site)
    labels = tracer.labels(x)
    incoming, outgoing = along(labels, 1), tracer.axis(weight, 0)
    stored = tracer.axis(weight, 1, groups).reshape(groups, -1)
    tracer.freeze([p for p in labels.planes if axes_of(p) != (1,)], "a convolution slides over the axis", call.site)
    if incoming is None:
        tracer.freeze((*labels.planes, stored), _UNKNOWN, call.site)
    elif groups > 1 and weight.shape[1] == 1:
        _depthwise(tracer, call, incoming, outgoing)
        groups = 1
    else:
        tracer.tie(incoming.reshape(groups, -1), stored, "read by", call.site)
        tracer.consumed(weight, stored, incoming)
        if not tracer.stored(weight):
            tracer.reads(call, incoming, 1)
    for parts, line in ((groups, incoming), (groups, outgoing), (offset_groups, incoming)):
        if parts > 1 and line is not None:
            tracer.uniform(line.reshape(parts, -1), "a deformable convolution in groups", call.site)
    for plane in tracer.labels(bias).planes if bias is not None else ():
        if plane.numel() == outgoing.numel():
            tracer.tie(outgoing, plane.reshape(-1), "bias", call.site)
    tracer.produced(outgoing)
    tracer.label(out, Labels((on_axis(outgoing, 1, out.ndim),) if outgoing.numel() > 1 else ()))


@rule("_trilinear")
def bilinear(tracer: Tracer, call: Call) -> None:
    """x_i W_oij y_j, summed over i and j, as ``nn.Bilinear`` has it."""
    left, weight, right = call.args[:3]
    if [list(axes) for axes in call.args[3:7]] != [[1, 3], [0], [1, 2], [2, 3]]:
        unknown(tracer, call)
        return
    for operand, axis in ((left, 1), (right, 2)):
        line, stored = along(tracer.labels(operand), 1), tracer.axis(weight, axis)
        if line is None:
            tracer.freeze((*tracer.labels(operand).planes, stored), _UNKNOWN, call.site)
        else:
            tracer.tie(line, stored, "read by", call.site)
            tracer.consumed(weight, stored, line)
    outgoing, out = tracer.axis(weight, 0), call.outputs[0]
    tracer.produced(outgoing)
    tracer.label(out, Labels((on_axis(outgoing, 1, out.ndim),) if outgoing.numel() > 1 else ()))


@rule("mm", "bmm", "mv", "dot")
def product(tracer: Tracer, call: Call) -> None:
    """(..., m, k) times (..., k, n)."""
    _product(tracer, call, call.args[0], call.args[1])


@rule("addmm", "baddbmm", "addmv")
def product_plus(tracer: Tracer, call: Call) -> None:
    """bias + (m, k) times (k, n)."""
    _product(tracer, call, call.args[1], call.args[2])
    out = call.outputs[0]
    added = call.args[0]
    result = tracer.labels(out)
    line = along(result, out.ndim - 1)
    for plane in tracer.labels(added).planes:
        if line is not None and plane.numel() == line.numel():
            tracer.tie(line, plane.reshape(-1), "bias", call.site)
        else:
            tracer.freeze((plane,), "a bias of unknown channels", call.site)
    if not tracer.labels(added).planes and line is not None and added.numel() > 1:
        tracer.freeze((line,), "a bias of unknown channels", call.site)


def _product(tracer: Tracer, call: Call, left: Tensor, right: Tensor) -> None:
    a, b, out = tracer.labels(left), tracer.labels(right), call.outputs[0]
    inner_left, inner_right = left.ndim - 1, max(0, right.ndim - 2)
    k_left, k_right = along(a, inner_left), along(b, inner_right)
    if a.weight and b.weight:  # tokens that are learnt, say: the second reads the first
        a = Labels(a.planes)
    weights = [w for w in (a.weight, b.weight) if w is not None]
    if k_left is not None and k_right is not None and len(weights) == 1:
        tracer.tie(k_left, k_right, "read by", call.site)
        read = (right, k_right, k_left) if b.weight else (left, k_left, k_right)
        tracer.consumed(*read)
        if not tracer.views(read[0]):  # zeros in a parameter may be something else in what is made of it
            tracer.reads(call, k_left, inner_left)
    elif k_left is not None and k_right is not None and not weights:
        tracer.tie(k_left, k_right, f"{call.name} of two activations", call.site)
        if tracer.views(left) != tracer.views(right):  # one of the matrices that a parameter holds, as experts have it
            tracer.consumed(*((right, k_right, k_left) if tracer.views(right) else (left, k_left, k_right)))
        else:
            tracer.reads(call, k_left, inner_left)
            tracer.ends(call, k_left)
        tracer.splits.want_whole((k_left, k_right))
    else:
        reason = _UNKNOWN if len(weights) == 1 else f"{call.name} of two activations"
        inner = (*touching(a, {inner_left}), *touching(b, {inner_right}))
        tracer.freeze(inner, reason, call.site)
        if not weights:
            tracer.splits.want_whole(inner)
    planes = []
    for labels, source, axis, place in ((a, left, left.ndim - 2, -2), (b, right, right.ndim - 1, -1)):
        line = along(labels, axis) if source.ndim > 1 else None
        if line is not None:
            planes.append(on_axis(line, out.ndim + place, out.ndim))
            if labels.weight:
                tracer.produced(line)
    planes += _batch_planes(tracer, call, left, right)
    tracer.label(out, Labels(tuple(planes)))


def _batch_planes(tracer: Tracer, call: Call, left: Tensor, right: Tensor) -> list[Tensor]:
    """Channels on the axes before the matrices (attention heads): the same in both operands, and in the result."""
    if left.ndim < 3 or right.ndim != left.ndim:
        return []
    axes = set(range(left.ndim - 2))
    planes = []
    for mine, other in ((left, right), (right, left)):
        for plane in touching(tracer.labels(mine), axes):
            partners = [p for p in touching(tracer.labels(other), axes) if axes_of(p) == axes_of(plane)]
            if all(tracer.unstored(p) for p in partners):  # none, or copies that ``expand`` made of each head
                tracer.splits.want_whole(tracer.labels(other).planes)
            if not partners:
                tracer.freeze((plane,), f"{call.name} over a batch of channels", call.site)
            for partner in partners:
                tracer.tie(plane, partner, call.name, call.site)
            if mine is left and partners:
                planes.append(plane)
    return planes
