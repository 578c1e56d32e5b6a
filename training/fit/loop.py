"""One pass over a split: learning from it, or measuring on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...pruners.errors import NeedsDataError, OptionError
from ...pruners.run import same_mode
from ..data import WHOLE, Part, Split, derive_seed

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
        raise OptionError(f"device {name!r} can't be used here: take auto or cpu") from None
    return device


Stop = Callable[[Tensor, int], bool]
"""(losses of the images so far, number of all images) -> whether that is enough."""


def evaluate(model: nn.Module, split: Split, *, batch_size: int = EVALUATION_BATCH, stop: Stop | None = None) -> Score:
    """Measures the model in eval mode, on the device it is on; its mode is left as it was."""
    return score_of(*totals(model, split, batch_size=batch_size, stop=stop))


@torch.no_grad()
def totals(
    model: nn.Module, split: Split, *, batch_size: int = EVALUATION_BATCH, part: Part = WHOLE, stop: Stop | None = None
) -> tuple[float, int, int, int]:
    """Sums over images, or over a part of them: the loss, how many are right, right within five, and all."""
    seen: list[Tensor] = []
    loss, top1, top5, count = 0.0, 0, 0, 0
    with same_mode(model):
        model.eval()
        for images, labels in split.batches(batch_size, part=part):
            if int(labels.min()) < 0:
                raise NeedsDataError("images without labels can't be measured on: their classes aren't known")
            logits, labels = model(fitting(images, model)).float(), labels.to(device_of(model))
            loss += F.cross_entropy(logits, labels, reduction="sum").item()
            best = logits.topk(min(5, logits.shape[1])).indices == labels.unsqueeze(1)
            top1 += int(best[:, 0].sum())
            top5 += int(best.sum())
            count += len(labels)
            if stop is not None:
                seen.append(F.cross_entropy(logits, labels, reduction="none").cpu())
                if stop(torch.cat(seen), len(split)):
                    break
    return loss, top1, top5, count


def score_of(loss: float, top1: int, top5: int, count: int) -> Score:
    """The means, from sums over images."""
    if not count:
        raise NeedsDataError("there are no images to measure on")
    return Score(loss / count, top1 / count, top5 / count, count)


def seed_step(seed: int, epoch: int, step: int, part: int = 0) -> None:
    """Makes what a step draws (dropout) a function of the step, so that a resumed run draws the same.

    ``part``: of a batch that several processes, or several passes, share.
    """
    torch.manual_seed(derive_seed(seed, epoch, step, *([part] if part else [])))


def fitting(images: Tensor, model: nn.Module) -> Tensor:
    """The images on the model's device and in its precision."""
    parameter = next(model.parameters(), images)
    return images.to(parameter.device, parameter.dtype if images.is_floating_point() else None)


def device_of(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))
