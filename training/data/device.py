"""Images held where the network is: moved there once, and augmented there (``--data-on-device``)."""

from __future__ import annotations

from dataclasses import replace

import torch

from ...pruners.errors import UnsuitedError
from .sets import Data, changed
from .splits import FileSplit, Images, Split, TensorSplit


def on_device(data: Data, device: torch.device) -> Data:
    """The same batches, made on this device. Training, validation and test images that lie in one tensor stay together.
    UsageError for images that are read from files when they are needed."""
    moved: dict[int, Images] = {}

    def of(split: Split) -> Split:
        if isinstance(split, FileSplit):
            raise UnsuitedError(
                f"--data-on-device: the images of {data.name} are read from files when they are needed, as they are "
                "large or many; leave the option out"
            )
        assert isinstance(split, TensorSplit)
        images = moved.setdefault(id(split.images), _moved(split.images, device))
        return replace(split, images=images)

    return changed(data, of)


def _moved(images: Images, device: torch.device) -> Images:
    return Images(images.labels.to(device), lambda: images.pixels.to(device))
