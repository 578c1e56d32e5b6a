"""Normalisation layers, and the embedding: one stored value per channel."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..labelling import Call, Labels, Tracer, axes_of, touching
from .registry import freeze_axes, rule


@rule("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "cudnn_batch_norm")
def batch_norm(tracer: Tracer, call: Call) -> None:
    """One value per channel (axis 1) in weight, bias, running mean and running variance. Channels on other axes (the
    inputs of a weight that is standardised) enter the statistics of what is kept."""
    labels = tracer.labels(call.args[0])
    _per_channel(tracer, call, call.args[0], call.args[1:5], 1)
    for plane in labels.planes:
        if len(axes_of(plane)) > 1:
            tracer.freeze((plane,), f"{call.name} runs over several axes", call.site)
        elif axes_of(plane) != (1,):
            tracer.statistic(call, plane, axes_of(plane)[0])
    tracer.label(call.outputs[0], labels)


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


@rule("_weight_norm_interface")
def weight_norm(tracer: Tracer, call: Call) -> None:
    """A weight in two parameters: its length per position of an axis, and its direction, in which a removed channel
    and one of zeros are the same."""
    direction, length = call.args[:2]
    axis = int(call.arg(2, "dim", 0)) % direction.ndim
    labels = tracer.labels(direction)
    for plane in touching(labels, {axis}):
        for other in touching(tracer.labels(length), {axis}):
            tracer.tie(plane.reshape(-1), other.reshape(-1), call.name, call.site)
    tracer.label(call.outputs[0], labels)


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
        for plane in touching(labels, axes):
            tracer.statistic(call, plane, source.ndim - 1)
    tracer.label(call.outputs[0], Labels(labels.planes))


@rule("native_group_norm")
def group_norm(tracer: Tracer, call: Call) -> None:
    """Statistics within each of ``group`` blocks of channels: blocks keep equally many. Where each
    channel is a block, blocks go."""
    source, groups = call.args[0], int(call.args[6])
    _per_channel(tracer, call, source, call.args[1:3], 1)
    labels = tracer.labels(source)
    for plane in touching(labels, {1}):
        if groups == source.shape[1]:
            continue
        tracer.statistic(call, plane, 1)
        tracer.uniform(plane.reshape(groups, -1), "a group norm", call.site)
    tracer.label(call.outputs[0], Labels(labels.planes))


@rule("_embedding_bag", "_embedding_bag_forward_only")
def embedding_bag(tracer: Tracer, call: Call) -> None:
    """Sums of looked-up rows, with the table's columns as channels."""
    left = freeze_axes(tracer, tracer.labels(call.args[0]), {0}, "embedding_bag looks rows up by number", call.site)
    tracer.label(call.outputs[0], Labels(left.planes))
    for plane in left.planes:
        tracer.produced(plane)


@rule("embedding")
def embedding(tracer: Tracer, call: Call) -> None:
    """Rows are looked up by number and must stay; columns are channels."""
    table, index = call.args[0], call.args[1]
    left = freeze_axes(tracer, tracer.labels(table), {0}, "embedding looks rows up by number", call.site)
    shape = (1,) * index.ndim + (-1,)
    tracer.label(call.outputs[0], Labels(tuple(p.reshape(shape) for p in left.planes)))
    for plane in left.planes:
        tracer.produced(plane)
