"""Operations that write, pool or sample at places: channels on other axes pass, those on that axis stay."""

from __future__ import annotations

import torch

from ..labelling import Call, Labels, Tracer, axes_of, on_axis, touching
from .elementwise import join
from .registry import freeze_axes, rule


@rule("scatter", "scatter_add", "scatter_reduce", "index_add", "index_copy", "index_fill", "index_reduce")
def written_at(tracer: Tracer, call: Call) -> None:
    """Writes one tensor into another at numbered places of an axis."""
    target = call.args[0]
    axis = int(call.arg(1, "dim")) % max(1, target.ndim)
    places = call.arg(2, "index")
    scattered = call.name.startswith("scatter")  # its places have all axes, of which the others are the target's
    operands = [t for t in call.tensors if t.ndim == target.ndim and (t is not places or scattered)]
    reason = f"{call.name} writes at numbered places of the axis"
    uneven = {a for t in operands for a in range(t.ndim) if t.shape[a] != target.shape[a]}  # the rest isn't written
    found = [freeze_axes(tracer, tracer.labels(t), {axis} | uneven, reason, call.site) for t in operands]
    left = join(tracer, operands, call.outputs[0], call.name, call.site, found)
    for tensor in call.tensors:
        numbers = tracer.labels(tensor)
        if all(tensor is not t for t in operands):
            tracer.freeze(numbers.planes, f"{call.name} takes numbers of places from it", call.site)
    tracer.label(call.outputs[0], Labels(left.planes))


@rule("gather")
def gathered(tracer: Tracer, call: Call) -> None:
    """Reads at numbered places of an axis; on the others the numbers have the source's channels, as far as they reach.
    """
    source, places, out = call.args[0], call.arg(2, "index"), call.outputs[0]
    axis = int(call.arg(1, "dim")) % max(1, source.ndim)
    uneven = {a for a in range(source.ndim) if source.shape[a] != places.shape[a]}
    reason = f"{call.name} reads at numbered places of the axis"
    found = [freeze_axes(tracer, tracer.labels(t), {axis} | uneven, reason, call.site) for t in (source, places)]
    tracer.label(out, Labels(join(tracer, (source, places), out, call.name, call.site, found).planes))


@rule("masked_scatter")
def filled_in_order(tracer: Tracer, call: Call) -> None:
    """Takes the source's elements one after the other: which one goes where depends on all of them."""
    for tensor in call.tensors:
        tracer.freeze(tracer.labels(tensor).planes, f"{call.name} takes elements in their order", call.site)


@rule("index_put", "_unsafe_index_put")
def put_at(tracer: Tracer, call: Call) -> None:
    """``x[i, :, j] = y``: axes that are indexed hold channels, and so does a value that has channels of its own.
    ``x[x < 0] = 0.0`` fills element by element."""
    target, places, value = call.args[:3]
    if value.numel() == 1 and len(places) == 1 and places[0].dtype == torch.bool and places[0].ndim == target.ndim:
        tracer.label(call.outputs[0], join(tracer, (target, places[0]), target, call.name, call.site))
        return
    axes = {a for a, i in enumerate(places) if i is not None}
    masks = [i for i in places if i is not None and i.dtype == torch.bool]
    if masks and masks[0].ndim > 1:
        axes = set(range(target.ndim))
    left = freeze_axes(tracer, tracer.labels(target), axes, f"{call.name} writes at places of the axis", call.site)
    if value.ndim and axes != {target.ndim - 1}:
        reason = f"{call.name} joins it with a tensor whose channels are unknown"
        tracer.freeze((*left.planes, *tracer.labels(value).planes), reason, call.site)
    tracer.label(call.outputs[0], left)


@rule("max_unpool2d", "max_unpool3d")
def unpooled(tracer: Tracer, call: Call) -> None:
    """Puts values back to where a pooling found them, channel by channel."""
    source, places = call.args[:2]
    labels = join(tracer, (source, places), source, call.name, call.site)
    axes = set(range(source.ndim - (2 if call.name == "max_unpool2d" else 3), source.ndim))
    left = freeze_axes(tracer, labels, axes, f"{call.name} runs over the channels", call.site)
    tracer.label(call.outputs[0], Labels(left.planes))


@rule("grid_sampler_2d", "grid_sampler_3d", "_grid_sampler_2d_cpu_fallback", "grid_sampler")
def sampled(tracer: Tracer, call: Call) -> None:
    """Reads the source at places that a grid gives: the grid holds no channels."""
    source, grid = call.args[:2]
    tracer.freeze(tracer.labels(grid).planes, f"{call.name} takes places from it", call.site)
    axes = set(range(2, source.ndim))
    left = freeze_axes(tracer, tracer.labels(source), axes, f"{call.name} runs over the channels", call.site)
    tracer.label(call.outputs[0], Labels(left.planes))


@rule("affine_grid_generator")
def grid(tracer: Tracer, call: Call) -> None:
    """Makes places of angles and scales: no channels."""
    tracer.freeze(tracer.labels(call.args[0]).planes, "affine_grid takes angles and scales from it", call.site)


@rule("im2col", "col2im")
def columns(tracer: Tracer, call: Call) -> None:
    """``F.unfold`` lays every channel's patch along the channels, ``F.fold`` puts patches together."""
    source, out = call.args[0], call.outputs[0]
    axis = source.ndim - (3 if call.name == "im2col" else 2)
    patch = out.shape[-2] // source.shape[axis] if call.name == "im2col" else source.shape[axis] // out.shape[axis]
    others = set(range(source.ndim)) - {axis}
    left = freeze_axes(tracer, tracer.labels(source), others, f"{call.name} runs over the axis", call.site)
    for plane in touching(left, {axis}):
        line = plane.reshape(-1)
        if call.name == "im2col":
            line = line.repeat_interleave(patch)
        else:
            blocks = line.reshape(-1, patch)
            tracer.tie(blocks, blocks[:, :1].expand(blocks.shape), "one channel's patch", call.site)
            line = blocks[:, 0]
        tracer.label(out, Labels((on_axis(line, axis, out.ndim),)))


@rule("glu")
def gated(tracer: Tracer, call: Call) -> None:
    """Two equal halves, one times the sigmoid of the other: they lose the same channels."""
    source = call.args[0]
    axis = int(call.arg(1, "dim", -1)) % source.ndim
    planes = []
    for plane in tracer.labels(source).planes:
        if axis in axes_of(plane):
            first, second = plane.chunk(2, axis)
            tracer.tie(first, second, "equal halves", call.site)
            plane = first
        planes.append(plane)
    tracer.label(call.outputs[0], Labels(tuple(planes)))


@rule("_fft_r2c", "_fft_c2r", "_fft_c2c")
def spectrum(tracer: Tracer, call: Call) -> None:
    """A Fourier transform along axes: channels on others pass."""
    source = call.args[0]
    axes = {int(a) % source.ndim for a in call.args[1]}
    left = freeze_axes(tracer, tracer.labels(source), axes, f"{call.name} runs along the channels", call.site)
    tracer.label(call.outputs[0], Labels(left.planes))


@rule("view_as_complex", "view_as_real")
def pairs(tracer: Tracer, call: Call) -> None:
    """The last axis holds real and imaginary parts; it comes or goes."""
    source, labels = call.args[0], tracer.labels(call.args[0])
    if call.name == "view_as_real":
        planes = tuple(p.unsqueeze(-1) for p in labels.planes)
    else:
        left = freeze_axes(tracer, labels, {source.ndim - 1}, "real and imaginary parts", call.site)
        planes = tuple(p.squeeze(-1) for p in left.planes)
    tracer.label(call.outputs[0], Labels(planes, labels.weight))
