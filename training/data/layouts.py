"""How data sets that torchvision knows lie on disk, and how each is augmented and normalised."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...pruners.errors import DataError
from .idx import read_mnist
from .sets import Data, data_set, hold_out
from .splits import Augment, Images, Normalization, TensorSplit, random_shift, shift_and_flip


@data_set("synthetic", "nothing: inputs are made from the network", needs_folder=False)
def synthetic(_: Path) -> Data:
    """Refused where there is no network to make them from."""
    raise DataError("synthetic inputs are made from a trained network, by prune alone: give other --data")


@data_set("digits", "nothing: the images are part of scikit-learn", needs_folder=False)
def digits(_: Path) -> Data:
    """1,797 handwritten digits of 8x8 pixels with values 0..16: 1,077 to train, 360 to validate, 360 to test."""
    pixels, labels = _digits()
    images = Images(labels, lambda: pixels)
    learn, test = hold_out(images.labels, 360)
    train, val = hold_out(images.labels[learn], 360)
    split = partial(TensorSplit, images, normalization=Normalization((0.305,), (0.376,), scale=16.0))
    return Data(
        name="digits",
        train=split(learn[train], augment=partial(random_shift, reach=1)),
        val=split(learn[val]),
        test=split(test),
        input_shape=(1, 8, 8),
        classes=tuple("0123456789"),
    )


@cache
def _digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    bunch = load_digits()  # a text, which takes time to read
    return torch.from_numpy(bunch.images).to(torch.uint8).unsqueeze(1), torch.from_numpy(bunch.target)


@data_set("mnist", "MNIST/raw/train-images-idx3-ubyte and its three companions, as .gz or unpacked")
def mnist(folder: Path) -> Data:
    found = read_mnist(folder)
    if found is None:
        raise _missing("mnist", "MNIST", folder)
    train, labels, test, test_labels = found
    return in_memory(
        "mnist",
        Images(labels, lambda: train.unsqueeze(1)),
        Images(test_labels, lambda: test.unsqueeze(1)),
        classes=tuple("0123456789"),
        normalization=Normalization((0.1307,), (0.3081,)),
        augment=partial(random_shift, reach=2),
    )


@data_set("cifar10", "cifar-10-batches-py/")
def cifar10(folder: Path) -> Data:
    from torchvision.datasets import CIFAR10

    train, test = _from_torchvision("cifar10", CIFAR10, folder)
    normalization = Normalization((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
    return _cifar("cifar10", train, test, normalization)


@data_set("cifar100", "cifar-100-python/")
def cifar100(folder: Path) -> Data:
    from torchvision.datasets import CIFAR100

    train, test = _from_torchvision("cifar100", CIFAR100, folder)
    normalization = Normalization((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))
    return _cifar("cifar100", train, test, normalization)


@data_set("minicifar", "cifar-10-batches-py/")
def minicifar(folder: Path) -> Data:
    """The first four classes of CIFAR-10: 4,000 images to train, 800 to validate, 4,000 to test.

    Of each class, the training images are ``RandomState(42).choice(5000, 1000)``, as in the course this data set
    comes from. There the validation images were part of the test set; here they are training images not chosen.
    """
    from torchvision.datasets import CIFAR10

    train, test = _from_torchvision("minicifar", CIFAR10, folder)
    labels, test_labels = torch.tensor(train.targets), torch.tensor(test.targets)
    members = [(labels == c).nonzero().squeeze(1) for c in range(4)]
    per_class = min(len(m) for m in members)
    order = np.random.RandomState(42).choice(per_class, per_class // 5, replace=False)
    spare = np.random.RandomState(42).permutation(np.setdiff1d(np.arange(per_class), order))[: per_class // 25]
    split = partial(TensorSplit, normalization=Normalization((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)))
    images = Images(labels, lambda: _channels_first(train.data))
    test_images = Images(test_labels, lambda: _channels_first(test.data))
    return Data(
        name="minicifar",
        train=split(images, torch.cat([m[order] for m in members]), augment=shift_and_flip(4)),
        val=split(images, torch.cat([m[spare] for m in members])),
        test=split(test_images, (test_labels < 4).nonzero().squeeze(1)),
        input_shape=(3, 32, 32),
        classes=tuple(train.classes[:4]),
    )


def in_memory(
    name: str,
    learn: Images,
    test: Images,
    *,
    classes: tuple[str, ...],
    normalization: Normalization,
    augment: Augment,
    input_shape: tuple[int, int, int] | None = None,
) -> Data:
    train, val = hold_out(learn.labels, held_out(len(learn.labels)))
    channels, height, width = input_shape or learn.pixels.shape[1:]
    return Data(
        name=name,
        train=TensorSplit(learn, train, normalization, augment),
        val=TensorSplit(learn, val, normalization),
        test=TensorSplit(test, torch.arange(len(test.labels)), normalization),
        input_shape=(channels, height, width),
        classes=classes,
    )


def held_out(images: int) -> int:
    """A tenth of the training images, but no more than it takes to tell accuracies half a percent apart."""
    return min(images // 10, 10_000)


def _cifar(name: str, train: Any, test: Any, normalization: Normalization) -> Data:
    return in_memory(
        name,
        Images(train.targets, lambda: _channels_first(train.data)),
        Images(test.targets, lambda: _channels_first(test.data)),
        classes=tuple(train.classes),
        normalization=normalization,
        augment=shift_and_flip(4),
    )


def _from_torchvision(name: str, kind: Any, folder: Path) -> tuple[Any, Any]:
    try:
        return kind(folder, train=True), kind(folder, train=False)
    except (RuntimeError, OSError, ValueError, EOFError):
        raise _missing(name, kind.__name__, folder) from None


def _missing(name: str, kind: str, folder: Path) -> DataError:
    return DataError(
        f"{name}: the files are missing or damaged in {folder}: "
        f"torchvision.datasets.{kind}({str(folder)!r}, download=True) fetches them"
    )


def _channels_first(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
