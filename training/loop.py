"""One pass over a split: learning from it, or measuring on it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruners.errors import UsageError
from training.splits import Split, derive_seed

EVALUATION_BATCH = 256


@dataclass(frozen=True)
class Score:
    """Means over ``images``: cross entropy (nats), and the shares (0..1) whose class is first or in the first five."""

    loss: float
    top1: float
    top5: float
    images: int


def resolve_device(name: str) -> torch.device:
    """``auto`` is a GPU where there is one; raises UsageError for a device this machine does not have."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise UsageError(f"device {name!r} can't be used here: take auto or cpu") from None
    return device


@torch.no_grad()
def evaluate(model: nn.Module, split: Split, *, batch_size: int = EVALUATION_BATCH) -> Score:
    """Measures the model in eval mode, on the device it is on; its mode is left as it was."""
    device = device_of(model)
    was_training = model.training
    model.eval()
    loss, top1, top5 = 0.0, 0, 0
    try:
        for images, labels in split.batches(batch_size):
            logits, labels = model(images.to(device)), labels.to(device)
            loss += F.cross_entropy(logits, labels, reduction="sum").item()
            best = logits.topk(min(5, logits.shape[1])).indices == labels.unsqueeze(1)
            top1 += int(best[:, 0].sum())
            top5 += int(best.sum())
    finally:
        model.train(was_training)
    count = len(split)
    return Score(loss / count, top1 / count, top5 / count, count)


def evaluate_fn(split: Split, *, batch_size: int = EVALUATION_BATCH) -> Callable[[nn.Module], tuple[float, float]]:
    """``model -> (loss, accuracy)`` on a split: what a search asks for."""

    def measure(model: nn.Module) -> tuple[float, float]:
        score = evaluate(model, split, batch_size=batch_size)
        return score.loss, score.top1

    return measure


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor, label_smoothing: float = 0.0
) -> float:
    """One step down the gradient of the cross entropy, which is returned. If it is not finite, no step is taken."""
    loss = F.cross_entropy(model(images), labels, label_smoothing=label_smoothing)
    value = loss.item()
    if math.isfinite(value):
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return value


def seed_step(seed: int, epoch: int, step: int) -> None:
    """Makes what a step draws (dropout) a function of the step, so that a resumed run draws the same."""
    torch.manual_seed(derive_seed(seed, epoch, step))


def device_of(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))
