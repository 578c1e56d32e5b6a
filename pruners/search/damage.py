"""Probes of single widths: how much the network's outputs change when one width alone gets narrower.

Nothing here needs labels: a candidate is compared with what the whole network says about the same images.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import NeedsDataError, NotFiniteError, UnsuitedError
from ..run import as_it_was, images_of, scores_of

PROBED = (0.75, 0.5, 0.25, 0.125)
"""Fractions of a width that are kept in its probes; the least it may keep comes on top."""
_SCORES = 1_000_000  # of a batch of sequences at most


@dataclass(frozen=True)
class Difference:
    """How far a candidate's outputs are from the whole network's, as means over the images.

    ``damage``: for classifiers the Kullback-Leibler divergence of the classes' probabilities in nats, for other
    networks ``||y - y'||^2 / ||y - mean y||^2``. ``agreement``: the share of images whose first class is the same; None
    where outputs are no classes. ``each``: the damage of every image.
    """

    damage: float
    agreement: float | None
    each: Tensor = field(default_factory=lambda: torch.empty(0), compare=False, repr=False)


class Reference:
    """What the whole network says about some images, kept to compare candidates with. ``classes``: rows of outputs are
    scores of classes.

    Raises ``UsageError`` without images and for outputs that hold no tensor.
    """

    def __init__(self, model: nn.Module, batches: Iterable[Any], classes: bool = True) -> None:
        self.images = [images_of(b) for b in batches]
        if not self.images:
            raise NeedsDataError("there are no images to probe with; give --data")
        self.outputs = [_output(model, images) for images in self.images]
        self.classes = classes and all(y.ndim == 2 and y.shape[1] > 1 for y in self.outputs)
        if not all(torch.isfinite(y).all() for y in self.outputs):
            raise NotFiniteError(
                "the network's outputs are not finite before anything is pruned; check weights and data"
            )

    def compare(self, model: nn.Module) -> Difference:
        """Runs the candidate in eval mode; its mode is left as it was. A candidate whose outputs are not finite is
        infinitely far away."""
        outputs = [_output(model, images) for images in self.images]
        if self.classes:
            return _of_classes(torch.cat(self.outputs), torch.cat(outputs))
        wanted, got = (torch.cat([y.flatten(1) for y in ys]) for ys in (self.outputs, outputs))
        spread = (wanted - wanted.mean(0)).square().sum().clamp_min(torch.finfo(wanted.dtype).tiny)
        each = (wanted - got).square().sum(1) * (len(wanted) / spread)
        return Difference(_finite(each.mean()), None, each)


def _of_classes(wanted: Tensor, got: Tensor) -> Difference:
    logs = F.log_softmax(wanted, 1), F.log_softmax(got, 1)
    each = F.kl_div(logs[1], logs[0], reduction="none", log_target=True).sum(1)
    same = (wanted.argmax(1) == got.argmax(1)).double().mean()
    return Difference(max(_finite(each.mean()), 0.0), float(same), each)


def _finite(value: Tensor) -> float:
    return float(value) if torch.isfinite(value) else float("inf")


@torch.no_grad()
def _output(model: nn.Module, images: Tensor) -> Tensor:
    """All floating outputs in float64 on the CPU: of one tensor as it is, of several side by side."""
    parameter = next(model.parameters(), images)
    with as_it_was(model):
        out = model.eval()(images.to(parameter.device))
    scores = None if images.is_floating_point() else scores_of(out, images)
    if scores is not None:  # of tokens: some, as there are as many numbers of each as words
        return scores[:: -(-scores.numel() // _SCORES)].double().cpu()
    found = _tensors(out)
    if not found:
        raise UnsuitedError(
            f"{type(model).__name__} gives no tensors of numbers, so candidates can't be compared with it"
        )
    flat = found if len(found) == 1 else [torch.cat([y.flatten(1) for y in found], 1)[:, :, None]]
    return flat[0].double().cpu()


def _tensors(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output] if output.is_floating_point() else []
    values = output.values() if isinstance(output, dict) else output if isinstance(output, (tuple, list)) else ()
    return [t for value in values for t in _tensors(value)]


# -- curves


@dataclass(frozen=True)
class Curve:
    """The damage that a width's narrowing does, piecewise linear and convex, from 0 where nothing is removed.

    ``removed``: groups, increasing from 0; ``damage``: at each of them.
    """

    removed: tuple[int, ...]
    damage: tuple[float, ...]

    def times(self, factor: float) -> Curve:
        return Curve(self.removed, tuple(factor * d for d in self.damage))

    def at(self, removed: int) -> float:
        if len(self.removed) == 1:
            return 0.0
        right = min(max(bisect_right(self.removed, removed), 1), len(self.removed) - 1)
        (x0, x1), (y0, y1) = (v[right - 1 : right + 1] for v in (self.removed, self.damage))
        return y0 + (y1 - y0) * (removed - x0) / (x1 - x0)


def curve_through(points: Sequence[tuple[int, float]]) -> Curve:
    """The largest convex and increasing curve from (0, 0) that lies under the measured (removed, damage), noise that
    makes less of more removed groups aside. Infinite damage counts as ten times the largest finite one."""
    worst = 10 * max([d for _, d in points if d != float("inf")], default=1.0)
    hull: list[tuple[int, float]] = [(0, 0.0)]
    highest = 0.0
    for removed, damage in sorted(points):
        highest = max(highest, min(damage, worst))
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) >= _slope(hull[-1], (removed, highest)):
            hull.pop()
        hull.append((removed, highest))
    return Curve(tuple(x for x, _ in hull), tuple(y for _, y in hull))


def _slope(one: tuple[int, float], other: tuple[int, float]) -> float:
    return (other[1] - one[1]) / (other[0] - one[0])
