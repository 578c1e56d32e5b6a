"""Training that keeps the best weights, can be interrupted at any step, and goes on as if it had not been."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from pruners.errors import CheckpointError, Interrupted
from training.checkpoints import State, load_checkpoint, load_weights, save_atomically
from training.data import Data
from training.interrupts import interrupt_as_flag
from training.loop import Score, device_of, evaluate, seed_step, train_step
from training.progress import Progress, Silent
from training.regimes import Regime
from training.splits import derive_seed, number_of_steps


class Upkeep(Protocol):
    """What a kind of network wants done while it trains (``training.binarization.kinds``)."""

    @property
    def after_step(self) -> Callable[[nn.Module], None]:
        """Called after every step."""
        ...

    @property
    def at_epoch(self) -> Callable[[nn.Module, float], None]:
        """Called before every epoch with the share (0..1) of training that is done."""
        ...


@dataclass(frozen=True)
class Epoch:
    """``number`` counts from 1; 0 is the network as it came, whose ``train_loss`` is 0."""

    number: int
    train_loss: float
    val: Score


@dataclass(frozen=True)
class FitResult:
    """``best`` is the epoch whose weights the model holds now; ``stopped`` says why training ended early, if it did."""

    best: Epoch
    history: tuple[Epoch, ...]
    seconds: float
    stopped: str = ""


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
    resume: bool = False,
    description: str = "training",
    upkeep: Upkeep | None = None,
) -> FitResult:
    """Trains the model in place for ``epochs`` and leaves it with its best weights.

    The best epoch is the one with the highest accuracy on ``data.val`` (the lowest loss among equals); the
    network as it came takes part, so training never makes it worse. Order, augmentation and dropout are functions
    of ``seed``, epoch and step: on a CPU a resumed run gives the same weights, bit for bit, as an uninterrupted one.

    With ``checkpoint_path`` the run is saved after each epoch and on Ctrl-C, which finishes the step first and
    raises Interrupted; ``resume`` goes on from there (or starts, if there is nothing yet). A loss that is not
    finite ends the run: the best weights so far are kept and ``stopped`` says where it happened. ``upkeep`` is what the
    network's kind wants done on the way.
    Raises CheckpointError if the checkpoint is of another run.
    """
    started = time.monotonic()
    was_training = model.training
    model.to(device or device_of(model))
    with _own_randomness(model), interrupt_as_flag() as interrupted:
        run = _Run(model, data, regime, epochs, seed, progress or Silent(), checkpoint_path, interrupted, upkeep)
        if resume and checkpoint_path is not None and checkpoint_path.exists():
            run.load(checkpoint_path)
        else:
            run.begin()
        stopped = run.finish(description)
    model.load_state_dict(run.best_model)
    model.train(was_training)
    return FitResult(run.best, tuple(run.history), time.monotonic() - started, stopped)


def retrain_fn(
    data: Data, regime: Regime, *, seed: int = 0, progress: Progress | None = None, upkeep: Upkeep | None = None
) -> Callable[[nn.Module, int], None]:
    """``(model, epochs) -> None``, training in place: what a search asks for. The same model gives the same result."""

    def retrain(model: nn.Module, epochs: int) -> None:
        fit(model, data, regime, epochs, seed=seed, progress=progress, description="retraining", upkeep=upkeep)

    return retrain


class _Run:
    """What a run needs, and what changes in it: what a checkpoint holds and ``begin`` or ``load`` sets."""

    best: Epoch
    best_model: State

    def __init__(
        self,
        model: nn.Module,
        data: Data,
        regime: Regime,
        epochs: int,
        seed: int,
        progress: Progress,
        path: Path | None,
        interrupted: Callable[[], bool],
        upkeep: Upkeep | None,
    ) -> None:
        self.model, self.data, self.regime, self.epochs, self.seed = model, data, regime, epochs, seed
        self.progress, self.path, self.interrupted, self.upkeep = progress, path, interrupted, upkeep
        self.device = device_of(model)
        self.steps = number_of_steps(len(data.train), regime.batch_size)
        self.optimizer = regime.build(model)

        self.epoch, self.step, self.loss_sum = 0, 0, 0.0
        self.history: list[Epoch] = []

    @property
    def settings(self) -> dict[str, Any]:
        """What must be the same for a resumed run to be the same run."""
        return {
            "regime": repr(self.regime),
            "epochs": self.epochs,
            "seed": self.seed,
            "data set": f"{self.data.name} with {len(self.data.train)} training images",
        }

    def begin(self) -> None:
        self.best = Epoch(0, 0.0, evaluate(self.model, self.data.val))
        self.best_model = _copy(self.model)

    def finish(self, description: str) -> str:
        """Trains what is left; returns why it stopped early, or nothing."""
        self.progress.start(self.epochs * self.steps, description)
        self.progress.advance(self.epoch * self.steps + self.step)
        try:
            while self.epoch < self.epochs:
                stopped = self._train_epoch()
                if stopped:
                    self.progress.log(stopped)
                    return stopped
                self._end_epoch()
        finally:
            self.progress.finish()
        return ""

    def _train_epoch(self) -> str:
        self.model.train()
        if self.upkeep is not None:
            self.upkeep.at_epoch(self.model, self.epoch / self.epochs)
        order = derive_seed(self.seed, self.epoch)
        for images, labels in self.data.train.batches(self.regime.batch_size, seed=order, start=self.step):
            done = (self.epoch + self.step / self.steps) / self.epochs
            self.regime.apply(self.optimizer, self.epoch, done)
            seed_step(self.seed, self.epoch, self.step)
            loss = train_step(
                self.model, self.optimizer, images.to(self.device), labels.to(self.device), self.regime.label_smoothing
            )
            if not math.isfinite(loss):
                return self._diverged(loss)
            if self.upkeep is not None:
                self.upkeep.after_step(self.model)
            self.step += 1
            self.loss_sum += loss
            self.progress.advance(1, self._status(loss))
            if self.interrupted():
                self._stop_here()
        return ""

    def _end_epoch(self) -> None:
        record = Epoch(self.epoch + 1, self.loss_sum / self.steps, evaluate(self.model, self.data.val))
        self.history.append(record)
        if _rank(record.val) > _rank(self.best.val):
            self.best, self.best_model = record, _copy(self.model)
        self.epoch, self.step, self.loss_sum = self.epoch + 1, 0, 0.0
        self._save()
        if self.interrupted():
            self._stop_here()

    def _status(self, loss: float) -> str:
        return f"epoch {self.epoch + 1}/{self.epochs}, loss {loss:.3f}, best validation {self.best.val.top1:.1%}"

    def _diverged(self, loss: float) -> str:
        kept = f"the weights of epoch {self.best.number}" if self.best.number else "the weights it began with"
        return (
            f"training stopped: the loss became {loss} in epoch {self.epoch + 1}, step {self.step + 1} of {self.steps} "
            f"(learning rate {self.optimizer.param_groups[0]['lr']:.3g}); {kept} are kept; try a lower learning rate"
        )

    def _stop_here(self) -> None:
        where = f"interrupted in epoch {min(self.epoch + 1, self.epochs)} of {self.epochs}"
        if self.path is None:
            raise Interrupted(f"{where}: this training is not kept")
        self._save()
        raise Interrupted(f"{where}: everything so far is in {self.path}; resume to go on")

    def _save(self) -> None:
        if self.path is None:
            return
        content = {
            "settings": self.settings,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "loss_sum": self.loss_sum,
            "best": asdict(self.best),
            "best_model": self.best_model,
            "history": [asdict(record) for record in self.history],
        }
        save_atomically(content, self.path)

    def load(self, path: Path) -> None:
        checkpoint = load_checkpoint(path)
        saved = checkpoint.training
        if checkpoint.optimizer is None or "settings" not in saved:
            raise CheckpointError(f"{path} holds weights only, no training to resume")
        for key, value in self.settings.items():
            if saved["settings"].get(key) != value:
                raise CheckpointError(
                    f"{path} is of another run: its {key} is {saved['settings'].get(key)}, now it is {value}; "
                    "use the same settings or another checkpoint"
                )
        load_weights(self.model, checkpoint.model, path)
        self.optimizer.load_state_dict(dict(checkpoint.optimizer))
        self.epoch, self.step, self.loss_sum = saved["epoch"], saved["step"], saved["loss_sum"]
        self.best, self.best_model = _epoch(saved["best"]), saved["best_model"]
        self.history = [_epoch(record) for record in saved["history"]]


def _epoch(saved: dict[str, Any]) -> Epoch:
    return Epoch(saved["number"], saved["train_loss"], Score(**saved["val"]))


def _rank(score: Score) -> tuple[float, float]:
    return score.top1, -score.loss


def _copy(model: nn.Module) -> State:
    return {key: value.detach().clone() for key, value in model.state_dict().items()}


@contextmanager
def _own_randomness(model: nn.Module) -> Iterator[None]:
    """Leaves the caller's random state as it was."""
    device = device_of(model)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
