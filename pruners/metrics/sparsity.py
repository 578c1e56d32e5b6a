"""What sparse training adds to the loss, so that channels become small by themselves and can then go."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..errors import OptionError, UnsuitedError
from ..graph import ChannelGraph, Slot, Use
from ..run import BatchNormBase
from .registry import Evidence
from .weights import along, is_scale, of_groups

USUAL = {"bn": 12.5, "group": 0.2}
"""Strength times steps: how far a group that nothing holds has to go. 12.5 is 1e-4 in 160 epochs of CIFAR-10 with 64
images a step, as Liu et al. train; 0.2 is measured."""

_SPARSE = 0.01  # of the largest group in a width: what is smaller counts as sparse
_STEEPEST = 4  # the smallest group of a width is pushed 2 ** 4 times as hard as the largest
_TINY = 1e-12


@dataclass(frozen=True)
class Sparsity:
    """A penalty on the groups of a channel graph; channels that must stay are left alone.

    ``kind`` "bn":     strength * sum over batch norms of |gamma|. Liu et al. 2017 (network slimming), arXiv 1708.06519.
    ``kind`` "group":  strength * sum over groups of s_g sqrt(n) ||w_g||, where w_g are all n weights and norm scales of
                       a group, and s_g = 2 ** (4 (max - ||w_g||) / (max - min)) within its width: from 1 for the
                       largest group to 16 for the smallest. Fang et al. 2023 (DepGraph), arXiv 2301.12900.

    The strength grows with the training, from 0 to what is given. Wang et al. 2021 (growing regularisation), arXiv
    2012.09243. ``parts``: for every width, where what counts lies.

    >>> sparsity = Sparsity.of(model, trace(model, example_input), "group", 1e-4)
    >>> loss = F.cross_entropy(model(images), labels) + sparsity(model, done=0.5)
    """

    kind: str
    strength: float
    graph: ChannelGraph = field(repr=False)
    parts: Mapping[str, tuple[Use, ...]] = field(repr=False)

    @classmethod
    def of(cls, model: nn.Module, graph: ChannelGraph, kind: str, strength: float) -> Sparsity:
        """Of a network and its graph. Raises UsageError where there is nothing to push, or the strength isn't above
        0."""
        if not 0 < strength < math.inf:
            raise OptionError(f"--sparsity {strength:g}: must be a number above 0")
        graph = graph.apart or graph
        evidence = Evidence(model, graph)
        norms = {n for n, m in model.named_modules() if isinstance(m, BatchNormBase)}
        parts: dict[str, tuple[Use, ...]] = {}
        for width in graph.widths:
            scales = [u for u in width.uses if is_scale(evidence, u)]
            uses = [u for u in scales if u.slot.layer in norms]
            if kind == "group":
                uses = [*{u.slot: u for u in (*evidence.uses(width), *scales)}.values()]
            if uses := [u for u in uses if evidence.parameters[u.slot.parameter].requires_grad]:
                parts[width.name] = tuple(uses)
        if not parts:
            lacking = "scales of batch norms" if kind == "bn" else "weights that are trained"
            raise UnsuitedError(f"--sparsify {kind}: the channels that may go have no {lacking}")
        return cls(kind, strength, graph, parts)

    def __call__(self, model: nn.Module, done: float) -> Tensor:
        """What is added to the loss when this share (0..1) of the training is done."""
        sizes = self.sizes(model).values()
        pushed = sizes if self.kind == "bn" else [_push(s.detach()) * s for s in sizes]
        return self.strength * done * torch.cat([*pushed]).sum()

    def sizes(self, model: nn.Module) -> dict[str, Tensor]:
        """Width name -> the size of each of its groups, in float32: the sum of |gamma|, or sqrt(n) ||w||."""
        parameters = dict(model.named_parameters(remove_duplicate=False))
        lines: dict[Slot, Tensor] = {}
        found: dict[str, Tensor] = {}
        for name, uses in self.parts.items():
            count, sums = 0.0, []
            for use in uses:
                slot = use.slot
                weight = self.graph.laid_out(slot.parameter, parameters[slot.parameter]).float()
                if slot not in lines:
                    lines[slot] = along(slot, weight.abs() if self.kind == "bn" else weight.square())
                sums.append(of_groups(use, lines))
                count += weight.numel() / len(lines[slot]) * use.index.shape[1]
            total = torch.stack(sums).sum(0)
            found[name] = total if self.kind == "bn" else (count * total).clamp_min(_TINY).sqrt()
        return found

    def sparse(self, model: nn.Module) -> tuple[int, int]:
        """How many groups are sparse, and how many there are."""
        with torch.no_grad():
            sizes = self.sizes(model).values()
        return sum(int((s < _SPARSE * s.max()).sum()) for s in sizes), sum(map(len, sizes))


def _push(sizes: Tensor) -> Tensor:
    """How hard each group of a width is pushed, beside the largest."""
    spread = (sizes.max() - sizes.min()).clamp_min(_TINY)
    return torch.exp2(_STEEPEST * (sizes.max() - sizes) / spread)
