"""How the known data sets lie on disk, and how each is augmented and normalised."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pruners.errors import DataError
from training.data import Data, data_set, hold_out
from training.splits import Augment, FileSplit, Images, Normalization, TensorSplit, random_shift, shift_and_flip

IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
LARGE = 96
"""Images with a longer side than this are read from their files when needed, cropped to 224x224."""


@data_set("digits", "nothing: the images are part of scikit-learn", needs_folder=False)
def digits(_: Path) -> Data:
    """1,797 handwritten digits of 8x8 pixels with values 0..16: 1,077 to train, 360 to validate, 360 to test."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = torch.from_numpy(bunch.images).to(torch.uint8).unsqueeze(1)
    images = Images(bunch.target, lambda: pixels)
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


@data_set("mnist", "MNIST/raw/train-images-idx3-ubyte and its three companions")
def mnist(folder: Path) -> Data:
    from torchvision.datasets import MNIST

    if not list(folder.glob("MNIST/raw/*-ubyte")) and list(folder.glob("MNIST/raw/*-ubyte.gz")):
        raise DataError(f"mnist: the files are still packed: run gunzip -k {folder}/MNIST/raw/*.gz")
    train, test = _from_torchvision("mnist", MNIST, folder)
    return _in_memory(
        "mnist",
        Images(train.targets, lambda: train.data.unsqueeze(1)),
        Images(test.targets, lambda: test.data.unsqueeze(1)),
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


@data_set("tiny_imagenet", "train/<wnid>/images/ and val/images/ with val/val_annotations.txt")
def tiny_imagenet(folder: Path) -> Data:
    """200 classes of 64x64 images. The published test set has no labels: the published validation set is ``test``."""
    root = folder / "tiny-imagenet-200" if (folder / "tiny-imagenet-200").is_dir() else folder
    notes = root / "val" / "val_annotations.txt"
    paths, labels, classes = _class_folders("tiny_imagenet", root / "train")
    if not notes.is_file():
        raise DataError(f"tiny_imagenet: there is no {notes}: give the folder that holds train/ and val/")
    rows = [line.split("\t")[:2] for line in notes.read_text().splitlines()]
    strange = sorted({wnid for _, wnid in rows} - set(classes))
    if strange or not rows:
        raise DataError(f"tiny_imagenet: {notes} names no class of train/: {', '.join(strange[:3]) or 'it is empty'}")
    test_paths = [str(root / "val" / "images" / name) for name, _ in rows]
    return _in_memory(
        "tiny_imagenet",
        Images(labels, partial(_decode, "tiny_imagenet", paths)),
        Images([classes.index(wnid) for _, wnid in rows], partial(_decode, "tiny_imagenet", test_paths)),
        classes=classes,
        normalization=IMAGENET,
        augment=shift_and_flip(8),
        input_shape=(3, 64, 64),
    )


@data_set("imagenet", "train/<class>/ and val/<class>/")
def imagenet(folder: Path) -> Data:
    """ImageNet sorted into class folders. Its test set has no labels: the validation set is ``test``."""
    return _large("imagenet", folder / "train", folder / "val")


@data_set("folder", "train/<class>/ and test/<class>/")
def folder_of_images(folder: Path) -> Data:
    """Your own images, in a folder per class; classes are numbered alphabetically.

    Small images (all of one size, at most 96 pixels) are held in memory and shifted by an eighth of their
    size; larger ones are treated like ImageNet's. All are normalised with ImageNet's mean and deviation.
    """
    paths, labels, classes = _class_folders("folder", folder / "train")
    width, height = _size_of(paths[0])
    if max(width, height) > LARGE:
        return _large("folder", folder / "train", folder / "test")
    test_paths, test_labels, test_classes = _class_folders("folder", folder / "test")
    _same_classes("folder", classes, test_classes)
    return _in_memory(
        "folder",
        Images(labels, partial(_decode, "folder", paths)),
        Images(test_labels, partial(_decode, "folder", test_paths)),
        classes=classes,
        normalization=IMAGENET,
        augment=shift_and_flip(max(1, height // 8)),
        input_shape=(3, height, width),
    )


def _in_memory(
    name: str,
    learn: Images,
    test: Images,
    *,
    classes: tuple[str, ...],
    normalization: Normalization,
    augment: Augment,
    input_shape: tuple[int, int, int] | None = None,
) -> Data:
    train, val = hold_out(learn.labels, _held_out(len(learn.labels)))
    channels, height, width = input_shape or learn.pixels.shape[1:]
    return Data(
        name=name,
        train=TensorSplit(learn, train, normalization, augment),
        val=TensorSplit(learn, val, normalization),
        test=TensorSplit(test, torch.arange(len(test.labels)), normalization),
        input_shape=(channels, height, width),
        classes=classes,
    )


def _held_out(images: int) -> int:
    """A tenth of the training images, but no more than it takes to tell accuracies half a percent apart."""
    return min(images // 10, 10_000)


def _large(name: str, train: Path, test: Path) -> Data:
    from torchvision import transforms

    paths, labels, classes = _class_folders(name, train)
    test_paths, test_labels, test_classes = _class_folders(name, test)
    _same_classes(name, classes, test_classes)
    finish = [transforms.ToTensor(), transforms.Normalize(IMAGENET.mean, IMAGENET.std)]
    plain = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), *finish])
    augment = transforms.Compose([transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), *finish])
    learn, val = hold_out(labels, _held_out(len(labels)))
    return Data(
        name=name,
        train=FileSplit(paths, labels, learn, plain, augment),
        val=FileSplit(paths, labels, val, plain),
        test=FileSplit(test_paths, test_labels, torch.arange(len(test_paths)), plain),
        input_shape=(3, 224, 224),
        classes=classes,
    )


def _cifar(name: str, train: Any, test: Any, normalization: Normalization) -> Data:
    return _in_memory(
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
        raise DataError(
            f"{name}: the files are missing or damaged in {folder}: "
            f"torchvision.datasets.{kind.__name__}({str(folder)!r}, download=True) fetches them"
        ) from None


def _channels_first(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def _class_folders(name: str, root: Path) -> tuple[list[str], Tensor, tuple[str, ...]]:
    from torchvision.datasets import ImageFolder

    if not root.is_dir():
        raise DataError(f"{name}: there is no folder {root}: give the folder that holds {root.name}/<class>/")
    try:
        found = ImageFolder(str(root))
    except FileNotFoundError as error:
        reason = "it has no class folders" if "class folder" in str(error) else str(error).split(". ")[0]
        raise DataError(f"{name}: {root} can't be used: {reason}") from None
    return [path for path, _ in found.samples], torch.tensor(found.targets), tuple(found.classes)


def _same_classes(name: str, train: tuple[str, ...], test: tuple[str, ...]) -> None:
    if train != test:
        different = sorted(set(train) ^ set(test))
        raise DataError(f"{name}: classes must be the same in both parts, but these are in one only: {different[:5]}")


def _size_of(path: str) -> tuple[int, int]:
    return _open_rgb("folder", path).shape[1::-1]


def _open_rgb(name: str, path: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except OSError as error:
        raise DataError(f"{name}: {path} can't be read as an image: {error}") from None


def _decode(name: str, paths: Sequence[str]) -> Tensor:
    """Reads images of one size into (N, 3, H, W), uint8."""
    first = _open_rgb(name, paths[0]).shape
    pixels = torch.empty((len(paths), 3, *first[:2]), dtype=torch.uint8)

    def read(index: int) -> None:
        image = _open_rgb(name, paths[index])
        if image.shape != first:
            sizes = f"{first[1]}x{first[0]} and {image.shape[1]}x{image.shape[0]}"
            raise DataError(f"{name}: images must have one size, but {paths[0]} and {paths[index]} have {sizes}")
        pixels[index] = torch.from_numpy(image.copy()).permute(2, 0, 1)

    with ThreadPoolExecutor() as pool:
        # list() raises what a thread raised
        list(pool.map(read, range(len(paths))))
    return pixels
