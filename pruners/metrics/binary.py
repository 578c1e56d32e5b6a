"""Metrics of networks of few bits: how far the latent weights are from what the layers compute with.

With latent weights w and the layer's quantizer Q, all arithmetic in float64:

* *angle* of two vectors in degrees, acos(<w, Q(w)> / (||w|| ||Q(w)||)); for signs, scaled or not, this is
  acos(||w||_1 / (||w||_2 sqrt(n))). A vector of zeros has no direction and counts as 90 degrees.
* *distance*: ||Q(w) - w||^2.

Convolutions: both of each kernel w[o, i] (height x width numbers); an output channel has the mean over its kernels
(dim 1), an input channel the mean over the kernels that read it (dim 0). Linear layers: the angle of a whole row
(outputs) or column (inputs); the distance summed over it. Where one channel owns several features (after a flatten)
it has their mean.

``angle`` and ``distance`` look at the layers that make a channel, ``angle_next_layer`` and ``distance_next_layer`` at
those that read it; a width with no quantized layer on that side takes those on the other side, with a note, and one
with none at all is refused. Where several layers make (or read) one channel, as in residual networks, angles are
averaged over the layers; distances have other scales in every layer and are averaged as d[g] / mean(d).

Which go first: **those with the largest angle or distance**, equal ones by index. (The experiments these metrics come
from did the same, although the legends of their figures call it "smallest": see ``rank``'s ``first``.) A linear layer's
columns, and the numbers of a 1x1 kernel, all have angles of their own kind: for signs of a single number it is 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..costs import quantizer_of
from ..errors import UnsuitedError
from ..graph import Use, Width
from .registry import Evidence, Scores, metric, relative

_DECIMALS = 9  # of angles in degrees: equal angles must come out equal
Error = Callable[[Tensor, Tensor], Tensor]  # (latent, quantized): vectors along the last axis -> one number each


def angle(latent: Tensor, quantized: Tensor) -> Tensor:
    """Degrees between vectors along the last axis, exact for small angles too."""
    sizes = latent.norm(dim=-1), quantized.norm(dim=-1)
    one, other = (
        v / n.clamp_min(torch.finfo(v.dtype).tiny)[..., None] for v, n in zip((latent, quantized), sizes, strict=True)
    )
    found = 2 * torch.atan2((one - other).norm(dim=-1), (one + other).norm(dim=-1))
    found = torch.where((sizes[0] > 0) & (sizes[1] > 0), found, math.pi / 2)
    return torch.rad2deg(found).round(decimals=_DECIMALS)


def distance(latent: Tensor, quantized: Tensor) -> Tensor:
    """The squared distance of vectors along the last axis."""
    return (quantized - latent).square().sum(-1)


@dataclass(frozen=True)
class Lines:
    """A layer's metric for every output (rows) and every input (columns; block by block in a grouped convolution)."""

    rows: Tensor
    columns: Tensor


def kernel_angles(layer: nn.Module) -> Tensor:
    """(out, in) degrees: the angle of every kernel of a quantized convolution. UsageError for other layers."""
    return _of_kernels(layer, angle)


def kernel_distances(layer: nn.Module) -> Tensor:
    """(out, in): the distance of every kernel of a quantized convolution. UsageError for other layers."""
    return _of_kernels(layer, distance)


KERNEL_METRICS: dict[str, Callable[[nn.Module], Tensor]] = {
    "angles_kernel": kernel_angles,
    "distances_kernel": kernel_distances,
}


def _of_kernels(layer: Any, error: Error) -> Tensor:
    quantize = quantizer_of(layer)
    if quantize is None or layer.weight.ndim < 3:
        raise UnsuitedError(
            f"kernel metrics are for convolutions that quantize their weights, not {type(layer).__name__}"
        )
    with torch.no_grad():
        latent = layer.weight.double()
        return error(latent.flatten(2), quantize(latent, layer).flatten(2))


def lines(layer: Any, error: Error, blocks: int = 1) -> Lines | None:
    """The metric of a layer's rows and columns; None where it does not quantize its weights.

    Rows and columns of zeros are channels that are gone: they have no part in scales and means.
    """
    quantize = quantizer_of(layer)
    if quantize is None:
        return None
    with torch.no_grad():
        whole = layer.weight.double()
        filled = whole.flatten(2).abs().sum(2) > 0 if whole.ndim > 2 else whole != 0
        rows, columns = filled.any(1), filled.any(0)
        latent = whole[:, columns]
        quantized = quantize(latent, layer)[rows]
        latent = latent[rows]
        made, read = whole.new_zeros(len(whole)), whole.new_zeros(blocks, whole.shape[1])
        if latent.numel():
            found = _of_table(latent, quantized, error, rows, blocks)
            made[rows], read[:, columns] = found.rows, found.columns
    return Lines(made, read.reshape(-1))


def _of_table(latent: Tensor, quantized: Tensor, error: Error, rows: Tensor, blocks: int) -> Lines:
    if latent.ndim == 2:
        return Lines(error(latent, quantized), error(latent.T, quantized.T))
    kernels = error(latent.flatten(2), quantized.flatten(2))
    block_of = torch.arange(len(rows), device=rows.device)[rows] // (len(rows) // blocks)
    columns = [kernels[block_of == b] for b in range(blocks)]
    return Lines(kernels.mean(1), torch.stack([c.mean(0) if len(c) else c.new_zeros(c.shape[1]) for c in columns]))


# -- of groups


def _values(evidence: Evidence, width: Width, error: Error, reading: bool) -> list[Tensor]:
    """One number per group for every quantized layer that makes these channels, or reads them."""
    found = []
    for use in width.uses:
        layer_name, _, name = use.slot.parameter.rpartition(".")
        if use.slot.virtual or name != "weight" or use.slot.parameter not in evidence.parameters:
            continue
        if evidence.parameters[use.slot.parameter].ndim < 2 or use.role not in (("in",) if reading else ("out", "per")):
            continue
        of_layer = lines(evidence.model.get_submodule(layer_name), error, use.slot.blocks)
        if of_layer is not None:
            found.append(_of_groups(of_layer, use))
    return found


def _of_groups(of_layer: Lines, use: Use) -> Tensor:
    line = of_layer.columns if use.slot.dim else of_layer.rows
    return line[torch.from_numpy(use.index).to(line.device)].mean(1).cpu()


def _scores(evidence: Evidence, name: str, error: Error, reading: bool) -> Scores:
    scores, others = {}, []
    for width in evidence.graph.widths:
        parts = _values(evidence, width, error, reading)
        if not parts:
            parts = _values(evidence, width, error, not reading)
            others.append(width.name)
        if not parts:
            made, read = (", ".join(layers) for layers in (width.producers, width.consumers))
            raise UnsuitedError(
                f"metric {name} compares weights with what they are quantized to, but width {width.name} has none: it "
                f"is made by {made or 'no layer'} and read by {read or 'no layer'}, none of which quantizes weights; "
                f"take l1, or --skip {width.name}"
            )
        scores[width.name] = relative(parts, width.size) if error is distance else torch.stack(parts).mean(0)
    if others:
        side = "make" if reading else "read"
        evidence.notes.append(f"{name}: the layers that {side} {', '.join(others)} are ranked there instead")
    return scores


@metric("angle", largest_first=True)
def angle_metric(evidence: Evidence) -> Scores:
    """The mean angle (degrees) between latent and quantized kernels, or rows, of the layers that make a channel."""
    return _scores(evidence, "angle", angle, reading=False)


@metric("distance", largest_first=True)
def distance_metric(evidence: Evidence) -> Scores:
    """The squared distance of latent and quantized kernels, or rows, of the layers that make a channel."""
    return _scores(evidence, "distance", distance, reading=False)


@metric("angle_next_layer", largest_first=True)
def angle_next_layer(evidence: Evidence) -> Scores:
    """``angle`` of the kernels, or columns, of the layers that read a channel."""
    return _scores(evidence, "angle_next_layer", angle, reading=True)


@metric("distance_next_layer", largest_first=True)
def distance_next_layer(evidence: Evidence) -> Scores:
    """``distance`` of the kernels, or columns, of the layers that read a channel."""
    return _scores(evidence, "distance_next_layer", distance, reading=True)
