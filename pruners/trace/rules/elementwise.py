"""Element-wise operations join the labels of their operands; tensors made from nothing carry none."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ...places import Site
from ..labelling import Call, Labels, Tracer, align, axes_of, on_axis
from .registry import RULES, rule


def pointwise(tracer: Tracer, call: Call) -> None:
    """Element-wise operations join the labels of their operands."""
    if _stays_flat(tracer, call):
        return
    for out in call.outputs:
        tracer.label(out, join(tracer, call.tensors, out, call.name, call.site))


def _stays_flat(tracer: Tracer, call: Call) -> bool:
    """Made of one parameter in one line, which the network views as filters later on."""
    large = [t for t in call.tensors if t.numel() > 1]
    names = {tracer.flat_name(t) for t in large} if len({t.shape for t in large}) == 1 else set()
    name = names.pop() if len(names) == 1 else None
    if name is None or any(out.shape != large[0].shape for out in call.outputs):
        return False
    tracer.flat.stays(call, name)
    return name in tracer.flat.shapes


def join(
    tracer: Tracer, operands: Sequence[Tensor], out: Tensor, name: str, site: Site,
    found: Sequence[Labels] | None = None,
) -> Labels:  # fmt: skip
    """Unite the operands' planes, aligned as broadcasting aligns them. ``found``: those that are meant, if not all."""
    found = [tracer.labels(t) for t in operands] if found is None else found
    planes = [(i, align(p, out.ndim)) for i, labels in enumerate(found) for p in labels.planes]
    sizes = [(1,) * (out.ndim - t.ndim) + _own_sizes(t) for t in operands]
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
    foreign = any(t.ndim > 1 and not f.weight for t, f in zip(operands, found, strict=True))
    whole = {f.weight for t, f in zip(operands, found, strict=True) if f.weight and t.ndim > 1 and t.shape == out.shape}
    return Labels(tuple(kept), whole.pop() if len(whole) == 1 and not foreign else None)


def _own_sizes(tensor: Tensor) -> tuple[int, ...]:
    """1 along axes on which a tensor was expanded: there it holds one value."""
    return tuple(1 if step == 0 else n for n, step in zip(tensor.shape, tensor.stride(), strict=True))


def meet(tracer: Tracer, plane: Tensor, partner: Tensor, name: str, site: Site) -> None:
    """Two planes label the same elements: unite them where one's axes hold the other's, else both must stay."""
    a, b = set(axes_of(plane)), set(axes_of(partner))
    if a <= b or b <= a:
        tracer.tie(plane, partner, name, site)
    else:
        tracer.freeze((plane, partner), f"{name} mixes two kinds of channels on one axis", site)


rule("hardswish", "_prelu_kernel", "hardswish_", "rrelu_with_noise", "clone", "_to_copy", "copy_", "lerp", "complex",
     "polar", "floor_divide", "normal", "fake_quantize_per_tensor_affine_cachemask",
     "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams",
     "_fake_quantize_learnable_per_tensor_affine")(pointwise)  # fmt: skip


@rule("native_dropout", "bernoulli_", "bernoulli", "fill_", "zero_", "uniform_", "normal_", "zeros_like", "ones_like",
      "full_like", "empty_like", "rand_like", "randn_like", "randint_like", "random_", "exponential_", "geometric_",
      "cauchy_", "log_normal_", "poisson", "log_sigmoid_forward")  # fmt: skip
def same_shape(tracer: Tracer, call: Call) -> None:
    """The outputs have the first operand's shape, element by element."""
    for out in call.outputs:
        tracer.label(out, Labels(tracer.labels(call.tensors[0]).planes))


@rule("zeros", "ones", "full", "empty", "new_zeros", "new_ones", "new_full", "new_empty", "rand", "randn")
def filled(tracer: Tracer, call: Call) -> None:
    """Every position of every axis is like the others, so each may go. The batch's axis is left alone."""
    out, planes = call.outputs[0], []
    for axis, size in enumerate(out.shape):
        batch = axis < out.ndim - 1 and size == tracer.batch
        if size > 1 and not batch:
            planes.append(on_axis(tracer.virtual(call.name, size, call.site), axis, out.ndim))
    tracer.label(out, Labels(tuple(planes)))


@rule("arange", "scalar_tensor", "lift_fresh", "lift_fresh_copy", "randperm", "randint", "linspace",
      "empty_strided", "new_empty_strided")  # fmt: skip
def fresh(tracer: Tracer, call: Call) -> None:
    """Tensors made from nothing carry no channels."""


@rule("_local_scalar_dense", "is_nonzero")
def read(tracer: Tracer, call: Call) -> None:
    """A number for the code."""
    tracer.labels(call.args[0])


RULES["pointwise"] = pointwise  # what torch tags as element-wise
