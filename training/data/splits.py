"""A split is images with labels, served as normalised batches: plain in order, or shuffled and augmented by a seed.

Nothing here keeps a random state. Order and augmentation are functions of the seed and of the number of the batch
(or image), so a run that stopped at batch k goes on with batch k as if it had never stopped.
"""

from __future__ import annotations

import os
import signal
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from io import BytesIO
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ...pruners.errors import DataError

Batch = tuple[Tensor, Tensor]
"""Images (N, C, H, W), float32, normalised; and their class indices (N,), int64."""

Augment = Callable[[Tensor, torch.Generator], Tensor]
"""From uint8 images (N, C, H, W) to as many, on the same device, drawn with the generator, which is on the CPU."""


Part = tuple[int, int]
"""(2, 5): of every batch the third of five parts, for the third of five processes. All parts together are the batch."""

WHOLE: Part = (0, 1)


def derive_seed(*parts: int) -> int:
    """One 32-bit seed from several numbers: the same numbers, the same seed."""
    return zlib.crc32(repr(parts).encode())


def generator(*parts: int) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(*parts))


class Split(Protocol):
    """Part of a data set."""

    @property
    def classes(self) -> Tensor:
        """The class index of each image, in order; -1 where it isn't known."""
        ...

    @property
    def normalization(self) -> Normalization | None:
        """How the images are normalised; None where they are coded so that none is left."""
        ...

    def __len__(self) -> int: ...

    def batches(
        self, batch_size: int, *, seed: int | None = None, start: int = 0, part: Part = WHOLE
    ) -> Iterator[Batch]:
        """Batches from number ``start`` on, or of each a part.

        Without a seed: every image once, in order, as it is. With a seed: shuffled and augmented, all batches
        full (what is left over is dropped, as batch norm can't learn from a single image).
        """
        ...

    def sample(self, count: int, seed: int = 0) -> Split:
        """``count`` images drawn without replacement (all of them if there are fewer), not augmented."""
        ...


def number_of_steps(images: int, batch_size: int) -> int:
    """How many batches an epoch of shuffled images has."""
    return max(1, images // batch_size)


@dataclass(frozen=True)
class Normalization:
    """x -> (x / scale - mean) / std, per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float = 255.0

    def __call__(self, pixels: Tensor) -> Tensor:
        mean, std = (torch.tensor(n, device=pixels.device).view(-1, 1, 1) for n in (self.mean, self.std))
        return pixels.float().div_(self.scale).sub_(mean).div_(std)


class _AsTheyAre(Normalization):
    def __call__(self, pixels: Tensor) -> Tensor:
        return pixels


AS_THEY_ARE, TOKENS = _AsTheyAre((), ()), _AsTheyAre((), ())
"""Of inputs that are what the network is to get; and of sequences of a text's tokens."""


class Images:
    """uint8 images of one size (N, C, H, W), or other inputs as they are, with labels (N,). Pixels are read when first
    looked at."""

    def __init__(self, labels: Sequence[int] | Tensor, read: Callable[[], Tensor]) -> None:
        self.labels = torch.as_tensor(labels, dtype=torch.int64)
        self._read = read

    @cached_property
    def pixels(self) -> Tensor:
        return self._read()

    def at(self, indices: Tensor) -> Tensor:
        """Those of them (N, C, H, W)."""
        return self.pixels[indices]


class ImageFiles(Images):
    """Image files of one size, each read when it is first looked at, and held from then on: whoever looks at a thousand
    of them waits for no more.

    Raises DataError, when it is looked at, for one that can't be read or has another size.
    """

    def __init__(self, name: str, paths: Sequence[str], labels: Sequence[int] | Tensor) -> None:
        super().__init__(labels, self._all)
        self.paths, self._name = paths, name

    @cached_property
    def _held(self) -> tuple[Tensor, Tensor]:
        """Room for all of them, which costs nothing before it is written to; and which are there."""
        height, width = rgb_of(self._name, self.paths[0]).shape[:2]
        return torch.empty((len(self.paths), 3, height, width), dtype=torch.uint8), torch.zeros(len(self.paths)).bool()

    def at(self, indices: Tensor) -> Tensor:
        pixels, there = self._held
        with ThreadPoolExecutor() as pool:
            list(pool.map(self._take, indices[~there[indices]].unique().tolist()))  # list() raises what a thread raised
        return pixels[indices]

    def _all(self) -> Tensor:
        self.at(torch.arange(len(self.paths)))
        return self._held[0]

    def _take(self, index: int) -> None:
        pixels, there = self._held
        image, (height, width) = rgb_of(self._name, self.paths[index]), pixels.shape[2:]
        if image.shape[:2] != (height, width):
            sizes = f"{width}x{height} and {image.shape[1]}x{image.shape[0]}"
            raise DataError(
                f"{self._name}: images must have one size, but {self.paths[0]} and {self.paths[index]} have {sizes}: "
                "resize them"
            )
        pixels[index] = torch.from_numpy(image).permute(2, 0, 1)
        there[index] = True


@dataclass(frozen=True, eq=False)
class TensorSplit:
    """Images held in memory: no worker processes, augmentation on whole batches."""

    images: Images
    indices: Tensor
    normalization: Normalization
    augment: Augment | None = None

    @property
    def classes(self) -> Tensor:
        return self.images.labels[self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def batches(
        self, batch_size: int, *, seed: int | None = None, start: int = 0, part: Part = WHOLE
    ) -> Iterator[Batch]:
        for number, chunk in _chunks(self.indices, batch_size, seed, start):
            chunk = chunk.to(self.images.labels.device)
            pixels = self.images.at(chunk)
            if seed is not None and self.augment is not None:
                pixels = self.augment(pixels, generator(seed, number))  # of the whole batch: the same for any part
            pixels, labels = (_part(x, part) for x in (pixels, self.images.labels[chunk]))
            if len(labels):
                yield self.normalization(pixels), labels

    def sample(self, count: int, seed: int = 0) -> TensorSplit:
        return replace(self, indices=_draw(self.indices, count, seed), augment=None)


@dataclass(frozen=True, eq=False)
class FileSplit:
    """Images read from files when they are needed, by worker processes; for large images.

    ``transform`` and ``augment`` take a PIL image and return a normalised tensor (C, H, W). A file that can't be read
    is left out of its batch and noted in ``damaged``.
    """

    paths: Sequence[str]
    labels: Tensor
    indices: Tensor
    transform: Callable[[Any], Tensor]
    augment: Callable[[Any], Tensor] | None = None
    workers: int = min(8, os.cpu_count() or 1)
    damaged: set[str] = field(default_factory=set)
    normalization: Normalization | None = None

    @property
    def classes(self) -> Tensor:
        return self.labels[self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def batches(
        self, batch_size: int, *, seed: int | None = None, start: int = 0, part: Part = WHOLE
    ) -> Iterator[Batch]:
        from torch.utils.data import DataLoader

        chunks = [_part(chunk, part).tolist() for _, chunk in _chunks(self.indices, batch_size, seed, start)]
        # the loader draws a base seed for its workers, which nothing here uses: it must not move the global one
        loader = DataLoader(
            _Files(self, seed),
            batch_sampler=[chunk for chunk in chunks if chunk],
            num_workers=self.workers,
            worker_init_fn=_leave_signals_to_the_parent,
            generator=torch.Generator(),
            collate_fn=_collate,
        )
        served = 0
        for batch, damaged in loader:
            self.damaged.update(damaged)
            if batch is None and seed is not None:  # a step can't be left out; in order, a batch may be a single image
                raise DataError(_unreadable(damaged))
            if batch is not None:
                served += 1
                yield batch
        if chunks and not served and start == 0:
            raise DataError(_unreadable(sorted(self.damaged)))

    def sample(self, count: int, seed: int = 0) -> FileSplit:
        return replace(self, indices=_draw(self.indices, count, seed), augment=None)


@dataclass(frozen=True, eq=False)
class CodedSplit:
    """A split whose batches are coded after all else. ``largest``: so many at most are read together in order."""

    split: Split
    coding: Callable[[Tensor, Tensor], Batch]
    normalization: Normalization | None = None
    largest: int | None = None

    @property
    def classes(self) -> Tensor:
        return self.split.classes

    def __len__(self) -> int:
        return len(self.split)

    def batches(
        self, batch_size: int, *, seed: int | None = None, start: int = 0, part: Part = WHOLE
    ) -> Iterator[Batch]:
        size = batch_size if self.largest is None or seed is not None else min(batch_size, self.largest)
        for images, labels in self.split.batches(size, seed=seed, start=start, part=part):
            yield self.coding(images, labels)

    def sample(self, count: int, seed: int = 0) -> CodedSplit:
        return replace(self, split=self.split.sample(count, seed))


def _leave_signals_to_the_parent(_worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # by which the parent ends it


class _Files(torch.utils.data.Dataset[Batch | str]):
    def __init__(self, split: FileSplit, seed: int | None) -> None:
        self.split = split
        self.seed = seed

    def __getitem__(self, index: int) -> Batch | str:
        path = self.split.paths[index]
        try:
            rgb = open_rgb(path)
        except OSError:
            return path
        label = self.split.labels[index]
        if self.seed is None or self.split.augment is None:
            return self.split.transform(rgb), label
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.seed, index))
            return self.split.augment(rgb), label


def open_rgb(path: str | BytesIO) -> Any:
    """The PIL image; OSError if the file can't be read as one."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        # what Pillow raises as well for files that are cut off or damaged
        raise OSError(str(error)) from None


def rgb_of(name: str, path: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """(H, W, 3); DataError, with the data set's name, if the file can't be read as an image."""
    try:
        return np.array(open_rgb(path))
    except OSError as error:
        raise DataError(f"{name}: {path} can't be read as an image: {error}") from None


def _unreadable(damaged: list[str]) -> str:
    return f"none of {len(damaged)} images can be read, {damaged[0]} among them: are they images?"


def _collate(items: list[Batch | str]) -> tuple[Batch | None, list[str]]:
    """The images as a batch (nothing, if there are none), and the paths of those that can't be read."""
    damaged = [item for item in items if isinstance(item, str)]
    good = [item for item in items if not isinstance(item, str)]
    if not good:
        return None, damaged
    images, labels = zip(*good, strict=True)
    return (torch.stack(images), torch.stack(labels)), damaged


def _part(items: Tensor, part: Part) -> Tensor:
    return items.tensor_split(part[1])[part[0]]


def _chunks(indices: Tensor, batch_size: int, seed: int | None, start: int) -> Iterator[tuple[int, Tensor]]:
    if seed is not None:
        order = torch.randperm(len(indices), generator=generator(seed))
        indices = indices[order][: number_of_steps(len(indices), batch_size) * batch_size]
    yield from enumerate(indices.split(batch_size)[start:], start)


def _draw(indices: Tensor, count: int, seed: int) -> Tensor:
    return indices[torch.randperm(len(indices), generator=generator(seed))[:count]]


def random_shift(pixels: Tensor, rng: torch.Generator, *, reach: int) -> Tensor:
    """Moves each image by up to ``reach`` pixels both ways, zeros coming in: a random crop of the padded image."""
    count, _, height, width = pixels.shape
    padded = torch.nn.functional.pad(pixels, (reach,) * 4)
    top, left = torch.randint(0, 2 * reach + 1, (2, count), generator=rng).to(pixels.device)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (N, C, tops, lefts, H, W), nothing copied
    return windows[torch.arange(count, device=pixels.device), :, top, left]


def random_flip(pixels: Tensor, rng: torch.Generator) -> Tensor:
    """Mirrors each image left to right with probability 1/2."""
    mirrored = torch.rand(len(pixels), 1, 1, 1, generator=rng).to(pixels.device) < 0.5
    return torch.where(mirrored, pixels.flip(-1), pixels)


def shift_and_flip(reach: int) -> Augment:
    """The standard augmentation of small photographs (He et al. 2015: reach 4 on 32x32)."""
    return partial(_shift_and_flip, reach=reach)


def _shift_and_flip(pixels: Tensor, rng: torch.Generator, *, reach: int) -> Tensor:
    return random_flip(random_shift(pixels, rng, reach=reach), rng)
