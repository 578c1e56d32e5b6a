"""Operations that run along axes: statistics over channels are taken over those that are kept; else channels on those
axes must stay."""

from __future__ import annotations

from torch import Tensor

from ..labelling import Call, Labels, Tracer, axes_of, touching
from .elementwise import join
from .registry import RULES, Rule, freeze_axes, rule

STATISTICS = {"sum", "mean", "amax", "amin", "var", "var_mean", "std", "std_mean", "norm", "linalg_vector_norm",
               "logsumexp", "nansum", "aminmax"}  # fmt: skip

_EXTREMES = {"max", "min", "median", "nanmedian", "mode"}  # with an axis they tell which it is, too


@rule(*STATISTICS, *_EXTREMES, "prod", "any", "all", "argmax", "argmin", "count_nonzero")
def reduction(tracer: Tracer, call: Call) -> None:
    """A statistic over an axis of channels runs over what is kept; other reductions hold them. Other axes pass."""
    source = call.args[0]
    if len(call.tensors) > 1:  # max(a, b)
        RULES["pointwise"](tracer, call)
        return
    axes, labels = reduced_axes(call, source), tracer.labels(source)
    statistic = call.name in STATISTICS | _EXTREMES
    gone = [p for p in touching(labels, axes) if statistic and len(axes_of(p)) == 1]
    for plane in gone:
        tracer.statistic(call, plane, axes_of(plane)[0])
    left = Labels(tuple(p for p in labels.planes if not any(p is q for q in gone)), labels.weight)
    left = freeze_axes(tracer, left, axes, f"{call.name} runs over the channels", call.site)
    for number, out in enumerate(call.outputs):
        keep = out.ndim == source.ndim
        drop = sorted(axes, reverse=True)
        planes = []
        for plane in left.planes:
            for axis in () if keep else drop:
                plane = plane.squeeze(axis)
            planes.append(plane)
        positions = number == 1 and call.name not in STATISTICS
        tracer.label(out, Labels(tuple(planes), left.weight, tuple(gone) if positions else ()))


@rule("mse_loss", "smooth_l1_loss", "huber_loss", "soft_margin_loss")
def loss(tracer: Tracer, call: Call) -> None:
    """Two tensors element by element, and mostly a mean over all that is kept."""
    one, other, out = *call.args[:2], call.outputs[0]
    joint = join(tracer, (one, other), one, call.name, call.site)
    if out.shape == one.shape:
        tracer.label(out, Labels(joint.planes))
        return
    for plane in joint.planes:
        if len(axes := axes_of(plane)) == 1:
            tracer.statistic(call, plane, axes[0])
        else:
            tracer.freeze((plane,), f"{call.name} runs over the channels", call.site)


def reduced_axes(call: Call, source: Tensor) -> set[int]:
    place = 2 if call.name in {"norm", "linalg_vector_norm"} else 1
    given = call.kwargs.get("dim", call.args[place] if len(call.args) > place else None)
    if given is None or given == [] or isinstance(given, bool):
        return set(range(source.ndim))
    return {int(d) % max(1, source.ndim) for d in (given if isinstance(given, (list, tuple)) else [given])}


@rule("_softmax", "_log_softmax", "softmax", "log_softmax", "cumsum", "cumprod", "sort", "topk", "logcumsumexp",
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
     "_upsample_nearest_exact1d", "reflection_pad1d", "replication_pad1d")(spatial(1))  # fmt: skip
rule("max_pool2d_with_indices", "max_pool2d", "avg_pool2d", "_adaptive_avg_pool2d", "adaptive_avg_pool2d",
     "adaptive_max_pool2d", "upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d", "reflection_pad2d",
     "replication_pad2d", "_upsample_nearest_exact2d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa",
     "fractional_max_pool2d", "mkldnn_max_pool2d", "tril", "triu")(spatial(2))  # fmt: skip
rule("max_pool3d_with_indices", "avg_pool3d", "_adaptive_avg_pool3d", "adaptive_max_pool3d", "upsample_nearest3d",
     "_upsample_nearest_exact3d", "upsample_trilinear3d", "reflection_pad3d",
     "replication_pad3d")(spatial(3))  # fmt: skip
