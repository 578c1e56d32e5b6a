"""Metrics of the weights alone: norms, distances, scales of normalisation layers."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn

from ..errors import UnsuitedError
from ..graph import Slot, Use, Width
from ..run import NormBase, values_in
from .registry import Evidence, Scores, metric, relative, slices

_NORMS = (NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


def _each_width(evidence: Evidence, values: Callable[[Width], list[torch.Tensor]]) -> Scores:
    """``values``: one score per group for every use that counts."""
    return {w.name: relative(values(w), w.size) for w in evidence.graph.widths}


def _sums(evidence: Evidence, part: Callable[[torch.Tensor], torch.Tensor]) -> dict[Slot, torch.Tensor]:
    """For every slot that counts, ``part`` (which works in place) summed up over each position's slice, in float64.

    Parameter by parameter: no slice is copied, and a weight that two widths share is read once.
    """
    wanted: dict[str, set[Slot]] = {}
    for use in (u for w in evidence.graph.widths for u in evidence.uses(w)):
        wanted.setdefault(use.slot.parameter, set()).add(use.slot)
    sums: dict[Slot, torch.Tensor] = {}
    for slots in wanted.values():
        sums |= _sums_of(evidence.laid_out(next(iter(slots))), slots, part)
    return sums


_AT_ONCE = 2**18  # elements; a piece of this size stays in the processor's cache


def _sums_of(
    tensor: torch.Tensor, slots: set[Slot], part: Callable[[torch.Tensor], torch.Tensor]
) -> dict[Slot, torch.Tensor]:
    whole = tensor.ndim == 1 or any(s.blocks > 1 for s in slots)
    lines: dict[Slot, list[torch.Tensor]] = {s: [] for s in slots}
    for rows in tensor.split(len(tensor) if whole else max(1, _AT_ONCE // max(1, tensor[0].numel()))):
        values = part(rows.to(torch.float64, copy=True))
        if values.ndim > 2 and all(s.dim < 2 for s in slots):
            values = values.flatten(2)
            values = values.sum(2) if values.shape[2] > 1 else values.squeeze(2)
        for slot in slots:
            lines[slot].append(_along(slot, values))
    return {s: torch.stack(ls).sum(0) if s.dim or whole else torch.cat(ls) for s, ls in lines.items()}


def _along(slot: Slot, values: torch.Tensor) -> torch.Tensor:
    if slot.blocks > 1:
        rows, columns = values.shape[:2]
        return values.reshape(slot.blocks, rows // slot.blocks, columns, -1).sum((1, 3)).reshape(-1)
    others = [d for d in range(values.ndim) if d != slot.dim]
    return values.sum(others) if others else values


def _of_groups(use: Use, sums: Mapping[Slot, torch.Tensor]) -> torch.Tensor:
    line = sums[use.slot]
    return line[torch.from_numpy(use.index).to(line.device)].sum(1)


@metric("l1")
def l1(evidence: Evidence) -> Scores:
    """v[g] = sum |w| over the slice; score = mean over slots of v[g] / mean(v). Li et al. 2017, arXiv 1608.08710,
    which uses the producer only."""
    sums = _sums(evidence, torch.Tensor.abs_)
    return _each_width(evidence, lambda w: [_of_groups(u, sums) for u in evidence.uses(w)])


@metric("l2")
def l2(evidence: Evidence) -> Scores:
    """v[g] = sqrt(sum w^2) over the slice; score = mean over slots of v[g] / mean(v)."""
    sums = _sums(evidence, torch.Tensor.square_)
    return _each_width(evidence, lambda w: [_of_groups(u, sums).sqrt() for u in evidence.uses(w)])


@metric("fpgm")
def fpgm(evidence: Evidence) -> Scores:
    """v[g] = sum over h of ||w_g - w_h||_2, the distance to all other slices: what lies near the geometric median
    is replaceable. Score = mean over slots of v[g] / mean(v). He et al. 2019, arXiv 1811.00250."""
    return _each_width(evidence, lambda w: [torch.cdist(s, s).sum(1) for s in evidence.slices(w)])


@metric("random")
def random(evidence: Evidence) -> Scores:
    """Uniform noise, the same for the same seed and width name."""
    generators = {w.name: np.random.default_rng([evidence.seed, zlib.crc32(w.name.encode())])
                  for w in evidence.graph.widths}  # fmt: skip
    return {w.name: torch.from_numpy(generators[w.name].random(w.size)) for w in evidence.graph.widths}


@metric("bn_scale")
def bn_scale(evidence: Evidence) -> Scores:
    """score = mean over norm layers of |gamma[g]|. Liu et al. 2017 (network slimming), arXiv 1708.06519.

    A width without norm layer falls back to ``l1``, scaled to the mean of the other widths' scores, with a note.
    Raises ``UsageError`` when no width has one.
    """
    scores: Scores = {}
    for width in evidence.graph.widths:
        scales = [u for u in width.uses if _is_scale(evidence, u)]
        gammas = [slices(values_in(evidence.parameters[u.slot.parameter]), u).abs().mean(1) for u in scales]
        if gammas:
            scores[width.name] = torch.stack([g.cpu() for g in gammas]).mean(0)
    if not scores:
        raise UnsuitedError("metric bn_scale needs normalisation layers with weights, this network has none; take l1")
    return fill_by_l1(evidence, scores, "bn_scale: no norm layer on {}, ranked there by l1")


def fill_by_l1(evidence: Evidence, scores: Scores, note: str) -> Scores:
    """The scores, and for every width without one what ``l1`` gives it, scaled to the mean of the others. ``note``:
    what to say then, with ``{}`` for the names."""
    without = [w.name for w in evidence.graph.widths if w.name not in scores]
    if not without:
        return scores
    evidence.notes.append(note.format(", ".join(without)))
    level, fallback = torch.cat(list(scores.values())).mean() if scores else 1.0, l1(evidence)
    return scores | {name: fallback[name] * level for name in without}


def _is_scale(evidence: Evidence, use: Use) -> bool:
    layer, _, name = use.slot.parameter.rpartition(".")
    if name != "weight" or use.slot.parameter not in evidence.parameters:
        return False
    return isinstance(evidence.model.get_submodule(layer), _NORMS)
