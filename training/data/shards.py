"""Images in WebDataset's shards: tar archives in which the files of one sample have one name."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...pruners.errors import DataError
from .folders import HELD, IMAGENET, LARGE, PARTS
from .layouts import in_memory
from .sets import Data, data_set, hold_out
from .splits import Images, open_rgb, shift_and_flip

_LABELS = ("cls", "cls.txt")
_SIDE = 224


@data_set("webdataset", "train-*.tar and test-*.tar (or val-*.tar), or *.tar alone, with classes as .cls")
def shards_of_images(folder: Path) -> Data:
    """Your own images in shards, held in memory, up to 2 GiB. Where there are no shards of a test part, a fifth of the
    images is held out; where there are no ``.cls`` files, images have no labels.

    Small images (at most 96 pixels) must have one size; larger ones are resized and cropped to 224x224. All are
    normalised with ImageNet's mean and deviation.
    """
    train, test = _parts(folder)
    pixels, labels = _read(train)
    told: tuple[str, ...] = ()
    if test:
        held = _read(test)
        if held[0].shape[1:] != pixels.shape[1:]:
            raise DataError(f"webdataset: images of {train[0]} and {test[0]} have different sizes: resize them")
        if int(held[1].max()) > int(labels.max()) or (int(held[1].min()) < 0) != (int(labels.min()) < 0):
            raise DataError(f"webdataset: {test[0]} has classes that the training shards have not")
    elif int(labels.min()) >= 0:
        rest, apart = hold_out(labels, len(labels) // 5)
        taken = f"{len(apart)} of {len(labels)} images, of every class, are held out as such"
        told = (f"{folder} has no test shards: {taken}",)
        held, (pixels, labels) = (pixels[apart], labels[apart]), (pixels[rest], labels[rest])
    else:
        held = pixels, labels
    classes = tuple(map(str, range(int(labels.max()) + 1)))
    data = in_memory(
        "webdataset", Images(labels, lambda: pixels), Images(held[1], lambda: held[0]), classes=classes,
        normalization=IMAGENET, augment=shift_and_flip(max(1, pixels.shape[2] // 8)),
        input_shape=(3, pixels.shape[2], pixels.shape[3]),
    )  # fmt: skip
    return replace(data, told=told, test=data.test if classes else data.val)


def _parts(folder: Path) -> tuple[list[Path], list[Path]]:
    """Shards to learn from, and those that only report, by the words in their names and in those of their folders."""
    files = sorted(f for f in folder.rglob("*.tar") if not any(p.startswith(".") for p in f.relative_to(folder).parts))
    if not files:
        raise DataError(f"webdataset: {folder} holds no shards: give the folder that holds train-*.tar")
    words = {f: set(re.split(r"[^a-z]+", f.relative_to(folder).as_posix().lower())) for f in files}
    train = [f for f in files if "train" in words[f]]
    test = next((found for part in PARTS if (found := [f for f in files if part in words[f]])), [])
    if test and not train:
        raise DataError(f"webdataset: {folder} holds {test[0].name}, but no train-*.tar to learn from")
    if train and (strange := [f for f in files if f not in train and not words[f] & set(PARTS)]):
        raise DataError(f"webdataset: {strange[0]} says neither train nor test: rename it, or move it away")
    return train or files, test


def _read(files: Sequence[Path]) -> tuple[Tensor, Tensor]:
    """Pixels (N, 3, H, W), uint8, and classes (N,), -1 where there are none."""
    pixels: list[np.ndarray[Any, Any]] = []
    labels: list[int] = []
    large, bytes_held = None, 0
    for file in files:
        for sample in _samples(file):
            key = f"{sample['__key__']} in {file}"
            image = _image(sample, key)
            large = max(image.size) > LARGE if large is None else large
            taken = np.asarray(_cropped(image) if large else image)
            if pixels and taken.shape != pixels[0].shape:
                raise DataError(f"webdataset: images must have one size, but {key} is {image.size[0]}x{image.size[1]}")
            if (bytes_held := bytes_held + taken.nbytes) > HELD:
                raise DataError("webdataset: the images take more than 2 GiB: give fewer shards, or unpack them")
            pixels.append(taken)
            labels.append(_class(sample, key))
    if not pixels:
        raise DataError(f"webdataset: {files[0]} holds no samples")
    if min(labels) < 0 <= max(labels):
        raise DataError(f"webdataset: some samples have a class (.cls) and others none, beginning with {files[0]}")
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels)


def _samples(file: Path) -> Iterator[dict[str, Any]]:
    """The files of every sample, as bytes: the library's own decoders would open pickles."""
    try:
        from webdataset.tariterators import group_by_keys, tar_file_expander
    except ImportError:
        how = "pip install 'secateur[webdataset]'"
        raise DataError(f"--data webdataset:DIR needs the package webdataset: {how}") from None
    try:
        with file.open("rb") as stream:
            yield from group_by_keys(tar_file_expander([{"url": str(file), "stream": stream}]))
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise DataError(f"webdataset: {file} can't be read as a shard: {str(error).splitlines()[0]}") from None


def _image(sample: dict[str, Any], key: str) -> Any:
    from torchvision.datasets.folder import IMG_EXTENSIONS

    name = next((n for n in sample if f".{n.rpartition('.')[2].lower()}" in IMG_EXTENSIONS), None)
    if name is None:
        raise DataError(f"webdataset: {key} has no image (.jpg, .png and the like)")
    try:
        return open_rgb(io.BytesIO(sample[name]))
    except OSError as error:
        raise DataError(f"webdataset: {key}.{name} can't be read as an image: {error}") from None


def _cropped(image: Any) -> Any:
    from torchvision.transforms import functional

    return functional.center_crop(functional.resize(image, [256]), [_SIDE])


def _class(sample: dict[str, Any], key: str) -> int:
    text = next((sample[name] for name in _LABELS if name in sample), None)
    if text is None:
        return -1
    if not bytes(text).strip().isdigit():
        raise DataError(f"webdataset: the class of {key} is {bytes(text)[:20]!r}: write its number, from 0")
    return int(text)
