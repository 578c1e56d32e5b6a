"""Training that keeps the best weights, can be interrupted at any step, and goes on as if it had not been."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...pruners.errors import Interrupted, ResumeError
from ...pruners.run import interrupt_as_flag, same_mode
from ..binarization.kinds import Kind
from ..data import Data, derive_seed, number_of_steps, read_now
from .checkpoints import State, load_checkpoint, load_weights, save_atomically
from .engines import engine_for
from .execution import Execution, device_for, is_main
from .history import Epoch, FitResult, Watch
from .loop import EVALUATION_BATCH, Score, device_of, seed_step
from .memory import memory_explained
from .objective import Penalty, Teacher, criterion
from .progress import Progress
from .regime import Regime


def fit(
    model: nn.Module,
    data: Data,
    regime: Regime,
    epochs: int,
    *,
    seed: int = 0,
    device: torch.device | None = None,
    progress: Progress | None = None,
    checkpoint_path: Path | None = None,
    save_every: int = 1,
    resume: bool = False,
    description: str = "training",
    upkeep: Kind | None = None,
    execution: Execution | None = None,
    watch: Watch | None = None,
    about: Mapping[str, Any] | None = None,
    teacher: Teacher | None = None,
    penalty: Penalty | None = None,
) -> FitResult:
    """Trains the model in place for ``epochs`` and leaves it with its best weights.

    The best epoch is the one with the highest accuracy on ``data.val`` (the lowest loss among equals); the
    network as it came takes part, so training never makes it worse. Order, augmentation and dropout are functions
    of ``seed``, epoch and step: on a CPU a resumed run gives the same weights, bit for bit, as an uninterrupted one.

    With ``checkpoint_path`` the run is saved after every ``save_every`` epochs and on Ctrl-C, which finishes the step
    first and raises Interrupted; ``resume`` goes on from there (or starts, if there is nothing yet). A loss that is not
    finite ends the run: the best weights so far are kept and ``stopped`` says where it happened. ``upkeep`` is what the
    network's kind wants done on the way; ``about`` is noted in the checkpoint. ``teacher``: what it learns from beside
    the labels. ``penalty``: what is added to the loss; it grows until the end, so the last epoch counts as the best.
    Under torchrun all processes call this, and the first one writes and watches.
    Raises CheckpointError if the checkpoint is of another run, OutOfMemory where there is too little.
    """
    started = time.monotonic()
    execution = execution or Execution()
    read_now(data)
    model.to(device_for(execution, device or device_of(model), regime.optimizer))
    with _as_before(model, execution.half), interrupt_as_flag() as interrupted:
        run = _Run(
            model, data, regime, epochs, seed, progress or Progress(), checkpoint_path, save_every, interrupted, upkeep,
            execution, watch, about or {}, teacher, penalty,
        )  # fmt: skip
        try:
            if resume and checkpoint_path is not None and checkpoint_path.exists():
                run.load(checkpoint_path)
            else:
                run.begin()
            stopped = run.finish(description)
        finally:
            run.engine.close()
    model.load_state_dict(run.best_model)
    return FitResult(run.best, tuple(run.history), time.monotonic() - started, stopped)


@dataclass
class _Run:
    """What a run needs, and what changes in it: what a checkpoint holds and ``begin`` or ``load`` sets."""

    model: nn.Module
    data: Data
    regime: Regime
    epochs: int
    seed: int
    progress: Progress
    path: Path | None
    save_every: int
    interrupted: Callable[[], bool]
    upkeep: Kind | None
    execution: Execution
    watch: Watch | None
    about: Mapping[str, Any]
    teacher: Teacher | None
    penalty: Penalty | None

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    history: list[Epoch] = field(default_factory=list)
    best: Epoch = field(init=False)
    best_model: State = field(init=False)

    def __post_init__(self) -> None:
        self.steps = number_of_steps(len(self.data.train), self.regime.batch_size)
        self.optimizer = self.regime.build(self.model)
        images = min(self.regime.batch_size, len(self.data.train))
        self.engine = engine_for(self.execution, self.model, self.optimizer, images)
        # without gradients about eight times as many images fit: so what lowers the one need lowers the other
        self.evaluated_at_once = min(EVALUATION_BATCH, 8 * -(-images // self.execution.accumulate))

    @property
    def settings(self) -> dict[str, Any]:
        """What must be the same for a resumed run to be the same run."""
        return {
            "epochs": self.epochs,
            "seed": self.seed,
            "regime": repr(self.regime),
            "data set": f"{self.data.name} with {len(self.data.train)} training images",
            "precision": self.execution.amp or ("half" if self.execution.half else "full"),
            **{key: self.about[key] for key in ("network",) if key in self.about},
            **({"teacher": repr(self.teacher)} if self.teacher is not None else {}),
            "penalty": repr(self.penalty),
        }

    def begin(self) -> None:
        with memory_explained(self._where):
            self.best = Epoch(0, 0.0, self._score())
        self.best_model = _copy(self.model)

    def _score(self) -> Score:
        return self.engine.evaluate(self.data.val, self.evaluated_at_once)

    def finish(self, description: str) -> str:
        """Trains what is left; returns why it stopped early, or nothing."""
        self.progress.start(self.epochs * self.steps, description)
        self.progress.advance(self.epoch * self.steps + self.step)
        try:
            while self.epoch < self.epochs:
                started = time.monotonic()
                with memory_explained(self._where):
                    stopped = self._train_epoch() or self._end_epoch(started)
                if stopped:
                    self.progress.log(stopped)
                    return stopped
        finally:
            self.progress.finish()
        return ""

    def _train_epoch(self) -> str:
        self.model.train()
        if self.upkeep is not None:
            self.upkeep.at_epoch(self.model, self.epoch / self.epochs)
        order, done = derive_seed(self.seed, self.epoch), (self.epoch + 1) / self.epochs
        objective = criterion(self.regime.objective, self.teacher, self.penalty, done)
        batches = self.data.train.batches(self.regime.batch_size, seed=order, start=self.step, part=self.engine.part)
        for images, labels in batches:
            self.regime.apply(self.optimizer, self.epoch + self.step / self.steps, self.epochs)
            seed = partial(seed_step, self.seed, self.epoch, self.step)
            loss = self.engine.step(images, labels, objective, seed)
            if not math.isfinite(loss):
                return self._diverged(f"the loss became {loss} in epoch {self.epoch + 1}, step {self.step + 1}")
            if self.upkeep is not None:
                self.upkeep.after_step(self.model)
            self.step += 1
            self.loss_sum += loss
            self.progress.advance(1, self._status(loss))
            if self.engine.any(self.interrupted()):
                self._stop_here()
        return ""

    def _end_epoch(self, started: float) -> str:
        score = self._score()
        if math.isnan(score.loss):  # the last step went too far
            return self._diverged(f"the validation loss became nan after epoch {self.epoch + 1}, step {self.step}")
        lr, seconds = self._rate(self.steps - 1), time.monotonic() - started
        record = Epoch(self.epoch + 1, self.loss_sum / self.steps, score, lr, seconds)
        self.history.append(record)
        if self._rank(record) > self._rank(self.best):
            self.best, self.best_model = record, _copy(self.model)
        self.epoch, self.step, self.loss_sum = self.epoch + 1, 0, 0.0
        if self.epoch % self.save_every == 0 or self.epoch == self.epochs:
            self._save()
        if self.watch is not None and is_main():
            self.watch(self.history)
        if self.engine.any(self.interrupted()):
            self._stop_here()
        return ""

    def _rank(self, epoch: Epoch) -> tuple[float, ...]:
        """Of text the loss is what counts: perplexity is made of it."""
        if self.penalty is not None:
            return (epoch.number,)
        return (-epoch.val.loss,) if self.data.is_text else epoch.rank

    def _where(self) -> str:
        passes = f" in {self.execution.accumulate} passes" if self.execution.accumulate > 1 else ""
        return (
            f"in epoch {self.epoch + 1}, step {self.step + 1} of {self.steps}, with {self.regime.batch_size} images a "
            f"step{passes}: train with a larger --accumulate (--resume goes on) or a smaller --batch-size"
        )

    def _status(self, loss: float) -> str:
        return f"epoch {self.epoch + 1}/{self.epochs}, loss {loss:.3f}, best validation {self.best.val.top1:.1%}"

    def _diverged(self, what: str) -> str:
        kept = f"the weights of epoch {self.best.number}" if self.best.number else "the weights it began with"
        return (
            f"training stopped: {what} of {self.steps} "
            f"(learning rate {self._rate(self.step):.3g}); {kept} are kept; try a lower learning rate"
        )

    def _rate(self, step: int) -> float:
        return self.regime.rate(self.epoch + step / self.steps, self.epochs)

    def _stop_here(self) -> None:
        where = f"interrupted in epoch {min(self.epoch + 1, self.epochs)} of {self.epochs}"
        if self.path is None:
            raise Interrupted(f"{where}: this training is not kept")
        self._save()
        raise Interrupted(f"{where}: everything so far is in {self.path}; resume to go on")

    def _save(self) -> None:
        if self.path is None or not is_main():
            return
        content = {
            **self.about,
            "settings": self.settings,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "loss_sum": self.loss_sum,
            "best": asdict(self.best),
            "best_model": self.best_model,
            "history": [asdict(record) for record in self.history],
            "engine": self.engine.state(),
        }
        save_atomically(content, self.path)

    def load(self, path: Path) -> None:
        checkpoint = load_checkpoint(path)
        saved = checkpoint.training
        if checkpoint.optimizer is None or "settings" not in saved:
            raise ResumeError(f"{path} holds weights only, no training to resume")
        for key, value in self.settings.items():
            theirs = saved["settings"].get(key, value)
            if theirs != value:
                before, now = _differing(str(theirs), str(value))
                raise ResumeError(
                    f"{path} is of another run: its {key} is {before}, now it is {now}; give the options of that run "
                    "to go on with it, or remove the file to begin anew"
                )
        load_weights(self.model, checkpoint.model, path)
        self.optimizer.load_state_dict(dict(checkpoint.optimizer))
        self.epoch, self.step, self.loss_sum = saved["epoch"], saved["step"], saved["loss_sum"]
        self.best, self.best_model = Epoch.of(saved["best"]), saved["best_model"]
        self.history = [Epoch.of(record) for record in saved["history"]]
        self.engine.load(saved["engine"])


def _differing(before: str, now: str) -> tuple[str, str]:
    """The parts, between commas, in which two descriptions differ."""
    parts = [(a, b) for a, b in zip(before.split(", "), now.split(", "), strict=False) if a != b]
    if not parts or before.count(", ") != now.count(", "):
        return before, now
    a, b = zip(*parts, strict=True)
    return ", ".join(a), ", ".join(b)


def _copy(model: nn.Module) -> State:
    return {key: value.detach().clone() for key, value in model.state_dict().items()}


@contextmanager
def _as_before(model: nn.Module, half: bool) -> Iterator[None]:
    """Leaves the caller's random state, and the model's mode and precision, as they were."""
    device = device_of(model)
    before = next((p.dtype for p in model.parameters()), torch.float32)
    with same_mode(model), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            if half:
                model.half()
            yield
        finally:
            if half:
                model.to(before)
