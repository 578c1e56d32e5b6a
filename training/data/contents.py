"""What a data set holds, as a hash: the same images, the same hash."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from torch import Tensor

from .sets import Data
from .splits import CodedSplit, FileSplit, ImageFiles, Split, TensorSplit


def contents(data: Data) -> str:
    """SHA-256 (hex) of the images and classes of every part. Of images that are read when they are needed, names, sizes
    and times count, as reading them all takes long."""
    digest = hashlib.sha256()
    seen: dict[int, bytes] = {}  # parts share their images
    for split in map(_plain, (data.train, data.val, data.test)):
        images = split.images if isinstance(split, TensorSplit) else split.paths
        if id(images) not in seen:
            seen[id(images)] = _images(split)
        digest.update(seen[id(images)])
        digest.update(_bytes(split.indices))
        digest.update(_bytes(split.classes))
    return digest.hexdigest()


def _plain(split: Split) -> TensorSplit | FileSplit:
    """The images before they are coded; how they are is said by the data set's name."""
    while isinstance(split, CodedSplit):
        split = split.split
    assert isinstance(split, (TensorSplit, FileSplit))
    return split


def _images(split: TensorSplit | FileSplit) -> bytes:
    digest = hashlib.sha256()
    if isinstance(split, TensorSplit):
        if not isinstance(split.images, ImageFiles):
            return hashlib.sha256(_bytes(split.images.pixels)).digest()
        for path in split.images.paths:  # much sooner read than decoded
            digest.update(hashlib.sha256(Path(path).read_bytes()).digest())
        return digest.digest()
    for path in split.paths:
        found = os.stat(path)
        digest.update(f"{os.path.basename(path)} {found.st_size} {found.st_mtime_ns}\n".encode())
    return digest.digest()


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.contiguous().numpy().data
