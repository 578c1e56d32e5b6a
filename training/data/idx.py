"""MNIST's own file format, packed with gzip as it is given out or not."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...pruners.errors import DataError

_BYTES = 8  # the format's number for unsigned bytes, the only type that MNIST holds
_PLACES = ("MNIST/raw", "raw", ".")


def read_mnist(folder: Path) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
    """Images and labels to train, images and labels to test; None where a file is missing. Nothing is written."""
    names = (f"{part}-{what}-ubyte" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1"))
    found = [_file(folder, name) for name in names]
    files = [path for path in found if path is not None]
    if len(files) < len(found):
        return None
    parts = [_read(path) for path in files]
    for images, labels, path in zip(parts[::2], parts[1::2], files[1::2], strict=True):
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
            sizes = f"{tuple(labels.shape)} labels for {tuple(images.shape)} images"
            raise DataError(f"mnist: {path} is damaged, or not MNIST's: {sizes}")
    return parts[0], parts[1], parts[2], parts[3]


def _file(folder: Path, name: str) -> Path | None:
    ways = (folder / place / f"{name}{end}" for place in _PLACES for end in ("", ".gz"))
    return next((path for path in ways if path.is_file()), None)


def _read(path: Path) -> Tensor:
    """A header of big-endian numbers (type, axes, their sizes), then one byte for each element."""
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        zeros, kind, axes = struct.unpack_from(">HBB", content)
        shape = struct.unpack_from(f">{axes}I", content, 4)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise DataError(f"mnist: {path} is damaged, or not MNIST's: {error}") from None
    start = 4 + 4 * axes
    if zeros or kind != _BYTES or not axes or len(content) - start != math.prod(shape):
        raise DataError(f"mnist: {path} is damaged, or not MNIST's: its header doesn't fit its size")
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy())
