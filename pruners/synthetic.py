"""Inputs made from a network itself, where there are no data: such that its batch norms see what they remember (as in
Yin et al., "Dreaming to Distill", arXiv 1912.08795, and Cai et al., "ZeroQ", arXiv 2001.00281), or noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .run import NormBase, as_it_was, copied, hooked, scores_of

_BATCH, _STEPS, _RATE = 128, 60, 0.1
_MOVED = 16  # inputs are shifted by up to this part of their sides, so that no pixel means much by itself
_SMOOTH = 0.05  # what neighbours that differ weigh, beside the statistics
_SURE = 0.1  # and what the classes that are drawn weigh


@dataclass(frozen=True)
class Synthetic:
    """``inputs`` (N, *shape); ``remembered``: made of what so many batch norms remember, 0 for noise. ``off``: how far
    their statistics are from those remembered, a mean over norms of ``|mean - m|^2 + |std - s|^2`` over ``s^2``, and
    ``noise``: the same of noise."""

    inputs: Tensor
    remembered: int
    off: float = 0.0
    noise: float = 0.0


def synthetic_inputs(
    model: nn.Module, shape: Sequence[int], count: int, seed: int = 0,
    report: Callable[[int, int, str], None] = lambda *progress: None,
) -> Synthetic:  # fmt: skip
    """``count`` inputs of this shape (without the batch) for a network that takes one tensor, which isn't changed.
    Noise has mean 0 and deviation 1, as normalised images have."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, *shape, generator=generator)
    norms = remembers(model)
    if not norms:
        return Synthetic(noise, 0)
    with as_it_was(model), torch.random.fork_rng(devices=[]), torch.enable_grad():
        network = copied(model).eval().requires_grad_(False)
        batches, made, offs = noise.split(_BATCH), list[Tensor](), list[float]()
        for number, batch in enumerate(batches):
            dream = _Dream(network, norms, batch, generator)
            offs.append(dream.off())
            for step in range(_STEPS):
                dream.step()
                report(number * _STEPS + step + 1, len(batches) * _STEPS, "inputs from batch norms")
            offs.append(dream.off())
            made.append(dream.inputs.detach())
    return Synthetic(torch.cat(made), len(norms), offs[1], offs[0])


def remembers(model: nn.Module) -> list[str]:
    """The batch norms that remember statistics of what they have seen."""
    return [n for n, m in model.named_modules() if isinstance(m, NormBase) and m.track_running_stats]


class _Dream:
    """A batch on its way."""

    def __init__(self, network: nn.Module, norms: Sequence[str], start: Tensor, generator: torch.Generator) -> None:
        self.network, self.norms, self.generator = network, norms, generator
        self.inputs = start.clone().requires_grad_()
        self.optimizer = torch.optim.Adam([self.inputs], lr=_RATE)
        self.classes: Tensor | None = None

    def off(self) -> float:
        with torch.no_grad():
            return float(self._statistics(self.inputs)[0])

    def step(self) -> None:
        inputs = self._moved(self.inputs)
        loss, out = self._statistics(inputs)
        scores = scores_of(out, inputs)
        if scores is not None and scores.shape[1] > 1:
            if self.classes is None:
                self.classes = torch.randint(scores.shape[1], (len(inputs),), generator=self.generator)
            loss = loss + _SURE * F.cross_entropy(scores, self.classes)
        for dim in range(2, inputs.ndim):
            loss = loss + _SMOOTH * inputs.diff(dim=dim).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def _moved(self, inputs: Tensor) -> Tensor:
        reach = [n // _MOVED for n in inputs.shape[2:]]
        by = [int(torch.randint(-n, n + 1, (1,), generator=self.generator)) for n in reach]
        return inputs.roll(by, tuple(range(2, inputs.ndim))) if any(by) else inputs

    def _statistics(self, inputs: Tensor) -> tuple[Tensor, Any]:
        """How far what the norms get is from what they remember, and the output."""
        found: list[Tensor] = []

        def look(norm: Any, args: tuple[Tensor, ...]) -> None:
            dims = [d for d in range(args[0].ndim) if d != 1]
            deviation, spread = args[0].std(dims), norm.running_var.clamp_min(1e-8)
            apart = (args[0].mean(dims) - norm.running_mean).square() + (deviation - spread.sqrt()).square()
            found.append((apart / spread).mean())

        with hooked(self.network.get_submodule(name).register_forward_pre_hook(look) for name in self.norms):
            out = self.network(inputs)
        return torch.stack(found).mean() if found else inputs.sum() * 0, out
