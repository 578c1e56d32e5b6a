"""A pruned network is trained for a short time to say what the original says: without labels, on few inputs (knowledge
distillation, Hinton et al., arXiv 1503.02531; mixed inputs, Beyer et al., "A good teacher is patient and consistent",
arXiv 2106.05237)."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import UsageError
from .run import as_it_was, copied, described, images_of, scores_of, tensors_in

log = logging.getLogger(__name__)

LEAST = 16
"""So many inputs are needed."""

_HELD_OUT, _MOST_HELD_OUT = 8, 512  # every eighth input is held out, and no more than so many
_CHECKS = 8  # how often those are looked at, in the second half
_WARM_UP = 0.15  # the share of the time in which the rate rises
_SHIFT = 16  # images are shifted by up to this part of their sides
_NUMBERS, _SEQUENCES = 1 << 22, 16  # in a batch
_STEEPEST = 1.0  # longer gradients are shortened


@dataclass(frozen=True)
class HealSettings:
    """It ends after ``steps`` or ``seconds``, whichever is first; without ``steps`` it takes all of the time. ``rate``:
    the highest learning rate. ``temperature``: by which both networks' scores are divided. ``batch``: inputs a step, or
    fewer where they are large."""

    steps: int | None = 600
    seconds: float = 300.0
    rate: float = 1e-3
    temperature: float = 2.0
    batch: int = 128
    seed: int = 0


@dataclass(frozen=True)
class Healed:
    """``before`` and ``after``: how far the outputs on held-out inputs are from the original's, see ``distance``.
    ``timed``: the time was over before the steps, so that another run may give other weights. ``curve``: (step, how far
    off after it) whenever that was measured."""

    state: dict[str, Tensor]
    before: float
    after: float
    steps: int
    seconds: float
    inputs: int
    held_out: int
    timed: bool
    curve: tuple[tuple[int, float], ...] = ()


def heal(
    original: nn.Module,
    pruned: nn.Module,
    batches: Iterable[Any],
    held_out: Iterable[Any],
    settings: HealSettings | None = None,
    report: Callable[[int, int, str], None] = lambda *progress: None,
) -> Healed:
    """Train a copy of ``pruned`` to give what ``original`` gives. Neither network is changed.

    ``batches``: tensors of inputs, or tuples that begin with one. Of all weights on the way those are returned that do
    best on ``held_out``, which are the first ones where nothing did better; so ``pruned`` must not have seen these
    inputs either. Weights that ``requires_grad`` excludes stay. Images are mirrored, shifted and mixed with each other;
    numbers of tokens stay as they are.
    """
    settings = settings or HealSettings()
    device = next(pruned.parameters()).device
    inputs, judged = ([images_of(b).to(device) for b in given] for given in (batches, held_out))
    with as_it_was(original), torch.random.fork_rng(devices=[]), torch.enable_grad():
        teacher, student = (_quick(network, inputs[0]) for network in (original.eval(), copied(pruned).eval()))
        return _Healing(teacher, student, inputs, judged, settings, report).run()


def held_out(batches: Iterable[Any], seed: int = 0) -> tuple[list[Tensor], list[Tensor]]:
    """The inputs in two parts: to train on, all in one tensor where they are alike; and an eighth, to judge by. Raises
    UsageError for fewer than ``LEAST``."""
    found = [b for b in map(images_of, batches) if len(b)]
    count = sum(map(len, found))
    if count < LEAST:
        raise UsageError(f"--transfer heal got {count} inputs: it needs {LEAST} or more (--calibration, --data)")
    if len({(b.shape[1:], b.dtype) for b in found}) == 1:
        found = [torch.cat(found)]
    generator = torch.Generator().manual_seed(seed)
    train, judge = [], []
    for batch in found:
        order = torch.randperm(len(batch), generator=generator).to(batch.device)
        apart = min(math.ceil(len(batch) / _HELD_OUT), _MOST_HELD_OUT)
        judge.append(batch[order[:apart]])
        train.append(batch[order[apart:]])
    return [b for b in train if len(b)], judge


def distance(wanted: Any, got: Any, inputs: Tensor, temperature: float = 1.0) -> Tensor:
    """How far outputs are from what was wanted: for scores of classes or tokens the Kullback-Leibler divergence of
    their softmax, averaged over rows, times ``temperature ** 2``; for others ``|y - y'|^2 / |y - mean y|^2``, averaged
    over the tensors."""
    scores = scores_of(wanted, inputs), scores_of(got, inputs)
    if scores[0] is not None and scores[1] is not None and scores[0].shape[1] > 1:
        logs = [F.log_softmax(s.float() / temperature, 1) for s in scores if s is not None]
        return F.kl_div(logs[1], logs[0], reduction="batchmean", log_target=True) * temperature**2
    pairs = [(a.float(), b.float()) for a, b in zip(tensors_in(wanted), tensors_in(got), strict=True)
             if a.is_floating_point()]  # fmt: skip
    return torch.stack([_relative(a, b) for a, b in pairs]).mean()


def _relative(wanted: Tensor, got: Tensor) -> Tensor:
    spread = (wanted - wanted.mean(0)).square().sum()
    return (wanted - got).square().sum() / spread.clamp_min(torch.finfo(torch.float32).tiny)


def _quick(model: nn.Module, inputs: Tensor) -> nn.Module:
    """The network with channels last in memory, which convolutions on small images are quicker with; or as it is, where
    its code can't."""
    if not any(p.ndim == 4 for p in model.parameters()):
        return model
    found = copied(model).to(memory_format=torch.channels_last)
    try:
        found(inputs[:2].contiguous(memory_format=torch.channels_last))
    except Exception as error:  # a view of what doesn't lie in one piece
        log.info("heal: channels stay first: %s", described(error))
        return model
    return found


class _Healing:
    def __init__(
        self, teacher: nn.Module, student: nn.Module, inputs: Sequence[Tensor], judged: Sequence[Tensor],
        settings: HealSettings, report: Callable[[int, int, str], None],
    ) -> None:  # fmt: skip
        self.teacher, self.student, self.settings, self.report = teacher, student, settings, report
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.batch = min(settings.batch, _together(inputs[0]))
        self.inputs, self.held_out = inputs, [x for b in judged for x in b.split(self.batch)]
        self.wanted = [self._taught(x) for x in self.held_out]
        self.best = self._held_out_distance()
        self.before, self.state = self.best, _state(student)
        self.curve = [(0, self.best)]

    def run(self) -> Healed:
        settings, began, step, checked = self.settings, time.monotonic(), 0, 0
        trained = [p for p in self.student.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained or [torch.zeros(1)], lr=settings.rate)
        done, spent = 0.0 if trained else 1.0, 0.0
        while done < 1:
            for group in optimizer.param_groups:
                group["lr"] = settings.rate * _one_cycle(done)
            if not self._step(optimizer, trained):
                break
            step, spent = step + 1, time.monotonic() - began
            done = max(spent / settings.seconds, step / settings.steps if settings.steps else 0.0)
            self.report(min(int(100 * done), 100), 100, "heal")
            if done >= 0.5 and int(2 * _CHECKS * min(done, 1)) > checked:
                checked = int(2 * _CHECKS * min(done, 1))
                self._check(step)
        held_out, rest = (sum(map(len, xs)) for xs in (self.held_out, self.inputs))
        timed = settings.steps is None or step < settings.steps
        return Healed(self.state, self.before, self.best, step, spent, held_out + rest, held_out, timed, self._finite)

    def _step(self, optimizer: torch.optim.Optimizer, trained: Sequence[nn.Parameter]) -> bool:
        """One step; False where numbers stopped being finite."""
        inputs = self._varied(self._drawn())
        loss = distance(self._taught(inputs), self.student(inputs), inputs, self.settings.temperature)
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(trained, _STEEPEST)
        if not torch.isfinite(norm):
            return False
        optimizer.step()
        return True

    def _check(self, step: int) -> None:
        found = self._held_out_distance()
        self.curve.append((step, found))
        if found < self.best:
            self.best, self.state = found, _state(self.student)

    @property
    def _finite(self) -> tuple[tuple[int, float], ...]:
        return tuple((n, y) for n, y in self.curve if math.isfinite(y))

    def _taught(self, inputs: Tensor) -> Any:
        with torch.no_grad():
            return self.teacher(inputs)

    def _held_out_distance(self) -> float:
        with torch.no_grad():
            pairs = zip(self.held_out, self.wanted, strict=True)
            found = [float(distance(y, self.student(x), x)) * len(x) for x, y in pairs]
        mean = sum(found) / sum(map(len, self.held_out))
        return mean if math.isfinite(mean) else math.inf

    # -- inputs

    def _drawn(self) -> Tensor:
        """Some of the inputs, all of one batch where they are not alike."""
        batch = self.inputs[self._whole(len(self.inputs))]
        picked = torch.randperm(len(batch), generator=self.generator)[: self.batch]
        return batch[picked.to(batch.device)]

    def _varied(self, batch: Tensor) -> Tensor:
        """Images mirrored, shifted, and mixed with each other."""
        if not batch.is_floating_point():
            return batch
        if batch.ndim == 4:
            mirrored = torch.rand(len(batch), generator=self.generator).to(batch.device) < 0.5
            batch = torch.where(mirrored.reshape(-1, 1, 1, 1), batch.flip(3), batch)
            by = [n // _SHIFT for n in batch.shape[2:]]
            padded = F.pad(batch, (by[1], by[1], by[0], by[0]), mode="replicate")
            at = [self._whole(2 * n + 1) for n in by]
            batch = padded[:, :, at[0] : at[0] + batch.shape[2], at[1] : at[1] + batch.shape[3]]
        share = float(torch.rand(1, generator=self.generator))
        order = torch.randperm(len(batch), generator=self.generator).to(batch.device)
        return share * batch + (1 - share) * batch[order]

    def _whole(self, below: int) -> int:
        return int(torch.randint(below, (1,), generator=self.generator))


def _together(inputs: Tensor) -> int:
    """How many inputs a step can take without much memory; of sequences fewer, as each token has a row of scores."""
    return max(_NUMBERS // inputs[:1].numel(), 8) if inputs.is_floating_point() else _SEQUENCES


def _one_cycle(done: float) -> float:
    """The learning rate's share of its highest, after Smith and Topin, "Super-convergence", arXiv 1708.07120."""
    if done < _WARM_UP:
        return 0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * done / _WARM_UP))
    return 0.5 * (1 + math.cos(math.pi * (done - _WARM_UP) / (1 - _WARM_UP)))


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().clone(memory_format=torch.contiguous_format) for k, v in model.state_dict().items()}
