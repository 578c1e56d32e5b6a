"""Images in a folder for each class: read into memory where they are small, else when they are needed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...pruners.errors import DataError
from .layouts import held_out, in_memory
from .sets import Data, data_set, hold_out
from .splits import FileSplit, ImageFiles, Normalization, rgb_of, shift_and_flip

Files = tuple[list[str], Tensor]
"""Paths and labels of images."""

IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
LARGE = 96
"""Images with a longer side than this are read from their files when needed, cropped to 224x224."""
HELD = 2 * 2**30
"""Bytes of decoded images that are held in memory; where there are more, files are read when needed."""


PARTS = ("test", "val", "valid", "validation")
"""What the images that only report are called; the first that is there is taken."""
_LOOKED_AT = 200
"""Images whose sizes say how all are treated."""


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
    return in_memory(
        "tiny_imagenet",
        ImageFiles("tiny_imagenet", paths, labels),
        ImageFiles("tiny_imagenet", test_paths, [classes.index(wnid) for _, wnid in rows]),
        classes=classes,
        normalization=IMAGENET,
        augment=shift_and_flip(8),
        input_shape=(3, 64, 64),
    )


@data_set("imagenet", "train/<class>/ and val/<class>/")
def imagenet(folder: Path) -> Data:
    """ImageNet sorted into class folders. Its test set has no labels: the validation set is ``test``."""
    return _large("imagenet", *_two_parts("imagenet", folder / "train", folder / "val"))


@data_set("folder", "train/<class>/ and test/<class>/ (or val/<class>/), <class>/ alone, or images without labels")
def folder_of_images(folder: Path) -> Data:
    """Your own images, in a folder per class; classes are numbered alphabetically. Images that lie in the folder
    itself have no labels. Where there is no ``test``, ``val`` is it: what decides is held out of ``train`` anyway.
    Where there is neither, or there are classes alone, a fifth of the images is held out. Hidden files are left out.

    Small images (all of one size, at most 96 pixels) are held in memory, up to 2 GiB, and shifted by an eighth of
    their size; larger ones are treated like ImageNet's. All are normalised with ImageNet's mean and deviation.
    """
    train = folder / "train"
    if train.is_dir():
        test = next((p for name in PARTS if (p := folder / name).is_dir()), None)
        return _held_apart(train) if test is None else _own_images(*_two_parts("folder", train, test))
    paths, classes = _images_in(folder), _visible(folder)
    if classes and not paths and not {name.lower() for name in classes} & {"training", *PARTS}:
        return _held_apart(folder)
    if len(paths) < 2:
        held = "one image alone" if paths else "neither train/<class>/ and test/<class>/ nor images (without labels)"
        raise DataError(f"folder: {folder} holds {held}: add images, or give another folder")
    files = paths, torch.full((len(paths),), -1)
    data = _own_images(files, files, ())
    beside = f"{folder} has images and folders: the folders ({', '.join(classes[:3])}) are left out, as are labels"
    return replace(data, test=data.val, told=(beside,) if classes else ())


def _held_apart(root: Path) -> Data:
    """Images of which a fifth of each class only reports."""
    paths, labels, classes = _class_folders("folder", root)
    _require_several("folder", root, classes)
    rest, held = hold_out(labels, len(labels) // 5)
    learn, test = (([paths[i] for i in part.tolist()], labels[part]) for part in (rest, held))
    taken = f"{len(held)} of its {len(labels)}, of every class, are held out as such"
    told = f"{root} has no test images beside it: {taken}"
    return replace(_own_images(learn, test, classes), told=(told,))


def _own_images(learn: Files, test: Files, classes: tuple[str, ...]) -> Data:
    width, height = _usual_size(learn[0])
    if max(width, height) > LARGE:
        return _large("folder", learn, test, classes)
    if 3 * width * height * (len(learn[0]) + len(test[0])) > HELD:
        return _many("folder", learn, test, classes, (width, height))
    return in_memory(
        "folder",
        *(ImageFiles("folder", paths, labels) for paths, labels in (learn, test)),
        classes=classes,
        normalization=IMAGENET,
        augment=shift_and_flip(max(1, height // 8)),
        input_shape=(3, height, width),
    )


def _large(name: str, learn: Files, test: Files, classes: tuple[str, ...]) -> Data:
    from torchvision import transforms

    plain = [transforms.Resize(256), transforms.CenterCrop(224)]
    augment = [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip()]
    return _in_files(name, learn, test, classes, plain, augment, (3, 224, 224))


def _many(name: str, learn: Files, test: Files, classes: tuple[str, ...], size: tuple[int, int]) -> Data:
    """Small images, too many to hold: augmented as if they were held."""
    from torchvision import transforms

    width, height = size
    reach = max(1, height // 8)
    plain = [transforms.Resize((height, width))]
    augment = [*plain, transforms.RandomCrop((height, width), padding=reach), transforms.RandomHorizontalFlip()]
    return _in_files(name, learn, test, classes, plain, augment, (3, height, width))


def _in_files(
    name: str, learn: Files, test: Files, classes: tuple[str, ...], plain: list[Any], augment: list[Any],
    input_shape: tuple[int, int, int],
) -> Data:  # fmt: skip
    from torchvision import transforms

    finish = [transforms.ToTensor(), transforms.Normalize(IMAGENET.mean, IMAGENET.std)]
    as_it_is, augmented = transforms.Compose([*plain, *finish]), transforms.Compose([*augment, *finish])
    train, val = hold_out(learn[1], held_out(len(learn[1])))
    return Data(
        name=name,
        train=FileSplit(*learn, train, as_it_is, augmented, normalization=IMAGENET),
        val=FileSplit(*learn, val, as_it_is, normalization=IMAGENET),
        test=FileSplit(*test, torch.arange(len(test[0])), as_it_is, normalization=IMAGENET),
        input_shape=input_shape,
        classes=classes,
    )


def _two_parts(name: str, train: Path, test: Path) -> tuple[Files, Files, tuple[str, ...]]:
    paths, labels, classes = _class_folders(name, train)
    _require_several(name, train, classes)
    test_paths, test_labels, test_classes = _class_folders(name, test)
    _same_classes(name, classes, test_classes)
    return (paths, labels), (test_paths, test_labels), classes


def _require_several(name: str, root: Path, classes: tuple[str, ...]) -> None:
    if len(classes) == 1:
        raise DataError(
            f"{name}: {root} holds one class only, {classes[0]}: add another, or write --data "
            f"folder:{root / classes[0]} to use its images without labels"
        )


def _images_in(folder: Path) -> list[str]:
    return sorted(str(f) for f in folder.iterdir() if f.is_file() and _is_image(str(f), folder))


def _is_image(path: str, root: Path) -> bool:
    """By its name; what is hidden, or lies in what is, was put there by a program."""
    from torchvision.datasets.folder import IMG_EXTENSIONS

    return path.lower().endswith(IMG_EXTENSIONS) and f"{os.sep}." not in path[len(str(root)) :]


def _visible(root: Path) -> list[str]:
    """The folders in it that aren't hidden."""
    return sorted(f.name for f in root.iterdir() if f.is_dir() and not f.name.startswith("."))


def _class_folders(name: str, root: Path) -> tuple[list[str], Tensor, tuple[str, ...]]:
    from torchvision.datasets.folder import make_dataset

    if not root.is_dir():
        raise DataError(f"{name}: there is no folder {root}: give the folder that holds {root.name}/<class>/")
    classes = _visible(root)
    number = {label: i for i, label in enumerate(classes)}
    found = make_dataset(
        root, number, is_valid_file=lambda path: _is_image(path, root), allow_empty=True
    ) if classes else []  # fmt: skip
    if empty := [classes[i] for i in sorted(set(number.values()) - {label for _, label in found})]:
        raise DataError(
            f"{name}: {root} can't be used: there are no images of {', '.join(empty[:5])}: add some, or remove the "
            "folder"
        )
    if not classes:
        reason = "it has no class folders"
        instead = f", or write --data folder:{root} to use its images without labels" if _images_in(root) else ""
        raise DataError(
            f"{name}: {root} can't be used: {reason}; it must hold a folder of images per class{instead}"
        )
    return [path for path, _ in found], torch.tensor([label for _, label in found]), tuple(classes)


def _same_classes(name: str, train: tuple[str, ...], test: tuple[str, ...]) -> None:
    if train != test:
        different = sorted(set(train) ^ set(test))
        raise DataError(f"{name}: classes must be the same in both parts, but these are in one only: {different[:5]}")


def _usual_size(paths: Sequence[str]) -> tuple[int, int]:
    """Width and height of the first; where sizes differ, of the one in the middle."""
    from PIL import Image

    first, sizes = rgb_of("folder", paths[0]).shape[1::-1], []
    for path in paths[:: max(1, len(paths) // _LOOKED_AT)]:
        with suppress(OSError, SyntaxError, ValueError), Image.open(path) as image:  # damaged ones are told later
            sizes.append(image.size)
    return first if len(set(sizes)) < 2 else sorted(sizes, key=max)[len(sizes) // 2]
