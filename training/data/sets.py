"""Data sets by name: ``digits``, or ``NAME:DIR`` for a data set in its original layout in the folder DIR."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...pruners.errors import DataError, NeedsDataError
from ...pruners.registry import Registry
from .splits import TOKENS, Batch, CodedSplit, FileSplit, Normalization, Split, TensorSplit, generator

SPLIT_SEED = 0
"""Fixed, whatever the seed of a run: what one run trained on must not be what the next one validates on."""


@dataclass(frozen=True, eq=False)
class Data:
    """A data set ready for use.

    ``train`` is augmented when it is asked for shuffled batches. ``val`` is held out of the training set and
    decides everything that is decided (the best epoch, the search). ``test`` decides nothing: it is for reporting.
    ``input_shape`` is (channels, height, width), or (tokens,) of text. Images without labels have no classes: their
    class is -1 each, and ``test`` is ``val``.

    ``own``: a function of the user's own gave them; then there may be other targets than classes, and ``told`` is what
    to say of how they were taken. ``others``: there are such, so rows of outputs are no scores of classes.
    ``only_calibration``: nothing is to be trained on ``train``. ``synthetic``: nothing is to be measured on ``test``.
    """

    name: str
    train: Split
    val: Split
    test: Split
    input_shape: tuple[int, ...]
    classes: tuple[str, ...]
    own: bool = False
    only_calibration: bool = False
    synthetic: bool = False
    others: bool = False
    told: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def labelled(self) -> bool:
        return bool(self.classes)

    @property
    def is_text(self) -> bool:
        return self.normalization is TOKENS

    @property
    def normalization(self) -> Normalization | None:
        return self.test.normalization


DATA_SETS = Registry[Callable[[Path], Data]]("data set")


def data_set(name: str, layout: str, needs_folder: bool = True) -> Callable[[Callable[[Path], Data]], object]:
    """Registers a reader, a function from the folder (an empty path if there is none) to Data. ``layout`` says what the
    folder must look like."""
    return DATA_SETS.register(name, layout=layout, needs_folder=needs_folder)


def with_workers(data: Data, workers: int | None) -> Data:
    """The data with so many processes to read image files; data in memory need none and stay as they are."""
    if workers is None:
        return data
    return changed(data, lambda split: replace(split, workers=workers) if isinstance(split, FileSplit) else split)


def limited(data: Data, count: int | None, seed: int = 0) -> Data:
    """The data with at most so many images in each of its parts, drawn by the seed; trained on as before."""
    if count is None:
        return data

    def fewer(split: Split) -> Split:
        drawn: Any = split.sample(count, seed)
        return replace(drawn, augment=getattr(split, "augment", None))

    return changed(data, fewer)


def read_now(data: Data) -> None:
    """Read all images that are to be held in memory, as one that can't be used is better found before hours of work."""

    def of(split: Split) -> Split:
        if isinstance(split, TensorSplit):
            _ = split.images.pixels
        return split

    changed(data, of)


def changed(data: Data, change: Callable[[Split], Split]) -> Data:
    """With every split changed, below its coding."""

    def of(split: Split) -> Split:
        return replace(split, split=of(split.split)) if isinstance(split, CodedSplit) else change(split)

    return replace(data, train=of(data.train), val=of(data.val), test=of(data.test))


def coded(data: Data, coding: Callable[[Tensor, Tensor], Batch], *more: Any) -> Data:
    """With every split in a ``CodedSplit``, whose other fields are ``more``."""
    train, val, test = (CodedSplit(split, coding, *more) for split in (data.train, data.val, data.test))
    return replace(data, train=train, val=val, test=test)


def require_labels(data: Data, what: str) -> None:
    """DataError where nobody knows the classes of the images."""
    if not data.labelled:
        how = "sort them into train/<class>/ and test/<class>/"
        if data.own:
            how = "return the number of its class beside each, for a network that gives class scores"
        if data.is_text:
            raise NeedsDataError(f"{what} needs classes of images, and this is text, for evaluate and retrain")
        raise NeedsDataError(f"{what} needs labels, and the images of {data.name} have none: {how}")


def require_trainable(data: Data, what: str) -> None:
    """DataError where the images are to calibrate with, and no more."""
    if data.only_calibration:
        raise NeedsDataError(f"{what} needs images to train on, and {data.name} gives none: return them as 'train'")


def damaged_in(data: Data) -> list[str]:
    """The image files that could not be read so far, and were left out."""
    splits = [s.split if isinstance(s, CodedSplit) else s for s in (data.train, data.val, data.test)]
    return sorted(set().union(*(split.damaged for split in splits if isinstance(split, FileSplit))))


def hold_out(labels: Tensor, count: int, seed: int = SPLIT_SEED) -> tuple[Tensor, Tensor]:
    """Splits indices 0..N-1 in two, both sorted: the rest, and ``count`` with the class proportions of the whole. Of
    images without labels (all are -1), any."""
    from sklearn.model_selection import train_test_split

    if len(labels) > 1 and int(labels.max()) < 0:
        order = torch.randperm(len(labels), generator=generator(seed))
        return order[max(count, 1) :].sort().values, order[: max(count, 1)].sort().values
    smallest = int(torch.bincount(labels).min()) if len(labels) else 0
    classes = len(labels.unique())
    if smallest < 2 or len(labels) - count < classes:
        raise DataError(f"{len(labels)} training images in {classes} classes are too few to hold some out: add images")
    rest, held = train_test_split(
        range(len(labels)), test_size=max(count, classes), stratify=labels.numpy(), random_state=seed
    )
    return torch.tensor(sorted(rest)), torch.tensor(sorted(held))


def calibration_images(data: Data, count: int, seed: int = 0) -> Tensor:
    """``count`` normalised images of the training set (N, C, H, W), drawn by the seed, not augmented."""
    return torch.cat([images for images, _ in data.train.sample(count, seed).batches(256)])
