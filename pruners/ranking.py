"""Which channels go first: metrics that score the groups of every width, and the ranking made from them.

A group owns one slice in each of its slots. Metrics look at the slices of weights (parameters with two axes or more);
biases and norm parameters have other scales and are left out, except by ``bn_scale``. ``slots`` says which slots
count: ``"all"`` (default), ``"producer"`` (weights that make the channel) or ``"consumer"`` (weights that read it).
A width that has none of the wanted kind uses all of its slots.
"""

from __future__ import annotations

import copy
import difflib
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from secateur.pruners.errors import CheckpointError, PlanError, UsageError
from secateur.pruners.graph.channel_graph import ChannelGraph
from secateur.pruners.graph.widths import IntArray, Slot, Use, Width
from secateur.pruners.running import images_of, labels_of

FloatArray = npt.NDArray[np.float64]
Batch = tuple[torch.Tensor, torch.Tensor]
Scores = dict[str, torch.Tensor]
_ROLES = {"all": ("out", "in", "per"), "producer": ("out",), "consumer": ("in",)}
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


@dataclass
class Evidence:
    """What a metric may look at. ``notes`` collects remarks for the user."""

    model: nn.Module
    graph: ChannelGraph
    slots: str = "all"
    batches: Sequence[Batch] | None = None
    seed: int = 0
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.parameters = dict(self.model.named_parameters(remove_duplicate=False))

    def uses(self, width: Width) -> list[Use]:
        """The uses whose slices count: weights first, other parameters only where there are no weights."""
        stored = [u for u in width.uses if u.slot.parameter in self.parameters]
        weights = [u for u in stored if self.parameters[u.slot.parameter].dim() > 1] or stored
        return [u for u in weights if u.role in _ROLES[self.slots]] or weights

    def slices(self, width: Width) -> list[torch.Tensor]:
        """For every use that counts, its slices: one row per group, float64."""
        return [slices(self.parameters[u.slot.parameter].detach(), u) for u in self.uses(width)]


Metric = Callable[[Evidence], Scores]
_METRICS: dict[str, Metric] = {}
_LARGEST_FIRST: set[str] = set()
_LABELS: set[str] = set()
FIRST = ("smallest", "largest", "random")


def metric(name: str, *, largest_first: bool = False, labels: bool = False) -> Callable[[Metric], Metric]:
    """Register a pure function: evidence -> for every width one value per group, the larger the more useful; with
    ``largest_first`` the less useful. ``labels``: it can't do without them.

    ``--search global`` compares values across widths, so they should be means over slots, not sums.
    """

    def register(function: Metric) -> Metric:
        _METRICS[name] = function
        if largest_first:
            _LARGEST_FIRST.add(name)
        if labels:
            _LABELS.add(name)
        return function

    return register


def _registered() -> Mapping[str, Metric]:
    # importing them registers their metrics; they read this module
    from secateur.pruners import binary_metrics  # noqa: F401
    from secateur.pruners.least_squares import metric  # noqa: F401

    return _METRICS


def metrics() -> tuple[str, ...]:
    """The names of all registered metrics."""
    return tuple(sorted(_registered()))


def slices(tensor: torch.Tensor, use: Use) -> torch.Tensor:
    """The slices of one slot, one row per group of the width: (groups, elements), float64.

    A slot with blocks lies on axis 1 and its rows belong to convolution groups in order; see ``Slot``.
    """
    slot = use.slot
    if slot.blocks > 1:
        rows, columns = tensor.shape[:2]
        blocked = tensor.reshape(slot.blocks, rows // slot.blocks, columns, -1).transpose(1, 2)
        flat = blocked.reshape(slot.blocks * columns, -1)
    else:
        flat = tensor.movedim(slot.dim, 0).reshape(tensor.shape[slot.dim], -1)
    index = torch.from_numpy(use.index).to(tensor.device)
    return flat[index].reshape(index.shape[0], -1).double()


def relative(parts: list[torch.Tensor], size: int) -> torch.Tensor:
    """The mean over slots of ``v[g] / mean(v)``: no layer counts more because it is larger or scaled up."""
    total = torch.zeros(size, dtype=torch.float64)
    for part in parts:
        mean = part.mean().clamp_min(torch.finfo(torch.float64).tiny)
        total += (part / mean).cpu() / len(parts)
    return total


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
    for name, slots in wanted.items():
        sums |= _sums_of(evidence.parameters[name].detach(), slots, part)
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
    scores, without = {}, []
    for width in evidence.graph.widths:
        scales = [u for u in width.uses if _is_scale(evidence, u)]
        gammas = [slices(evidence.parameters[u.slot.parameter].detach(), u).abs().mean(1) for u in scales]
        if gammas:
            scores[width.name] = torch.stack([g.cpu() for g in gammas]).mean(0)
        else:
            without.append(width.name)
    if not scores:
        raise UsageError("metric bn_scale needs normalisation layers with weights, this network has none; take l1")
    if without:
        evidence.notes.append(f"bn_scale: no norm layer on {', '.join(without)}, ranked there by l1")
        level = torch.cat(list(scores.values())).mean()
        fallback = l1(evidence)
        scores.update({name: fallback[name] * level for name in without})
    return scores


def _is_scale(evidence: Evidence, use: Use) -> bool:
    layer, _, name = use.slot.parameter.rpartition(".")
    if name != "weight" or use.slot.parameter not in evidence.parameters:
        return False
    return isinstance(evidence.model.get_submodule(layer), _NORMS)


@metric("taylor", labels=True)
def taylor(evidence: Evidence) -> Scores:
    """score = mean over slots and batches of (sum over the slice of w * dL/dw)^2, L the cross entropy on the batch.

    For a consumer's slice the inner sum equals sum over positions of activation * dL/dactivation, the first-order
    change of the loss when the channel goes. Molchanov et al. 2019, arXiv 1906.10771 (eq. 8, with the channel as
    the gate). Raises ``UsageError`` without batches.
    """
    check_labels("taylor", evidence.batches)
    model = copy.deepcopy(evidence.model).eval()
    parameters = {n: p.requires_grad_() for n, p in model.named_parameters() if p.is_floating_point()}
    device = next(iter(parameters.values())).device
    scores = {w.name: torch.zeros(w.size, dtype=torch.float64) for w in evidence.graph.widths}
    batches = evidence.batches or ()
    for batch in batches:
        images, targets = images_of(batch).to(device), labels_of(batch, "metric taylor").to(device)
        loss = nn.functional.cross_entropy(model(images), targets)
        found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        gradients = dict(zip(parameters, found, strict=True))
        for width in evidence.graph.widths:
            uses = [u for u in evidence.uses(width) if gradients.get(u.slot.parameter) is not None]
            for use in uses:
                change = (parameters[use.slot.parameter] * gradients[use.slot.parameter]).detach()
                part = slices(change, use).sum(1).square().cpu()
                scores[width.name] += part / (len(uses) * len(batches))
    return scores


@dataclass(frozen=True)
class Ranking:
    """Per width ``scores`` (one per group) and ``order``: the groups in the order in which they go.

    The order is ascending by score, ties by index. With blocks, it takes the least useful group of every block,
    then the second least of every block and so on, so that a prefix of whole rounds leaves equal blocks.
    """

    metric: str
    scores: Mapping[str, FloatArray]
    order: Mapping[str, IntArray]
    blocks: Mapping[str, int]
    notes: tuple[str, ...] = ()

    def keep(self, width: Width | str, n: int) -> tuple[int, ...]:
        """The indices of the ``n`` most useful groups, increasing, equally many per block.

        Raises ``PlanError`` when ``n`` is not a positive multiple of the number of blocks or too large.
        """
        name = width if isinstance(width, str) else width.name
        order, blocks = self.order[name], self.blocks[name]
        if not 0 < n <= len(order) or n % blocks:
            rule = f"a multiple of {blocks} (equal blocks), " if blocks > 1 else ""
            raise PlanError(f"width {name!r} can't keep {n} channels: it must be {rule}from {blocks} to {len(order)}")
        return tuple(sorted(order[len(order) - n :].tolist()))


def rank(
    model: nn.Module,
    graph: ChannelGraph,
    metric: str = "l1",
    batches: Iterable[Batch] | None = None,
    seed: int = 0,
    slots: str = "all",
    first: str | None = None,
) -> Ranking:
    """Score and order the groups of all widths. The model is not changed; the same input gives the same ranking.

    ``batches``: (images, labels) pairs, for metrics that look at data. ``first``: which go first, those with the
    "smallest" or the "largest" values of the metric, or "random" ones; default: the metric's own rule. Raises
    ``UsageError`` for an unknown metric, ``slots`` or ``first``, ``CheckpointError`` when a weight is not finite.
    """
    function, sign = _with_sign(metric, first)
    if slots not in _ROLES:
        raise UsageError(f"unknown slots {slots!r}, known are {', '.join(_ROLES)}")
    evidence = Evidence(model, graph, slots, None if batches is None else list(batches), seed)
    for name, parameter in evidence.parameters.items():
        if not torch.isfinite(parameter.sum()) and not torch.isfinite(parameter).all():
            raise CheckpointError(f"{name} holds NaN or infinite values; take a checkpoint from before training broke")
    # float32 makes ties of what only rounding errors tell apart
    found = function(evidence)
    scores = {w.name: sign * found[w.name].float().cpu().double().numpy() for w in graph.widths}
    for name, values in scores.items():
        if not np.isfinite(values).all():
            raise UsageError(f"metric {metric} gives width {name!r} a score that is not finite; check the data")
    order = {w.name: _removal_order(scores[w.name], w) for w in graph.widths}
    blocks = {w.name: w.n_blocks for w in graph.widths}
    return Ranking(metric, scores, order, blocks, tuple(evidence.notes))


def _removal_order(scores: FloatArray, width: Width) -> IntArray:
    ascending = np.argsort(scores, kind="stable")
    turn = np.empty(width.size, dtype=np.int64)
    for block in range(width.n_blocks):
        members = ascending[width.block_of[ascending] == block]
        turn[members] = np.arange(members.size)
    return np.lexsort((np.arange(width.size), scores, turn))


def _with_sign(name: str, first: str | None) -> tuple[Metric, int]:
    """A metric, and what makes a score of its value: the larger the more useful."""
    function = find_metric(name)
    if first not in (None, *FIRST):
        raise UsageError(f"unknown ranking {first!r}, known are {', '.join(FIRST)}")
    if first == "random":
        return random, 1
    return function, -1 if first == "largest" or (first is None and name in _LARGEST_FIRST) else 1


def find_metric(name: str) -> Metric:
    """The metric called ``name``. Raises UsageError with the closest name."""
    known = _registered()
    if name not in known:
        close = difflib.get_close_matches(name, known, 1, 0.4)
        guess = f", did you mean {close[0]!r}?" if close else ";"
        raise UsageError(f"unknown metric {name!r}{guess} known are {', '.join(metrics())}")
    return known[name]


def needs_labels(name: str) -> bool:
    """Whether the metric can't do without them."""
    find_metric(name)
    return name in _LABELS


def check_labels(name: str, batches: Sequence[Any] | None) -> None:
    """UsageError where the metric needs labels and there are none, or no proper ones, in the batches."""
    if not needs_labels(name):
        return
    if not batches:
        raise UsageError(f"metric {name} needs labelled data; give --data or take l1")
    for batch in batches:
        labels_of(batch, f"metric {name}")
