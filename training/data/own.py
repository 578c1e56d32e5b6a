"""Data that a function of the user's own returns: loaders, or whatever else can be gone through batch by batch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from ...pruners.errors import DataError, OwnDataError
from ...pruners.loading import Factory, call, cause, load_factory
from ...pruners.run import isolated
from .sets import Data, hold_out
from .splits import AS_THEY_ARE, Images, Split, TensorSplit

_NAMES = {"train": "train", "calibration": "train", "val": "val", "validation": "val", "test": "test"}
_LABELS = ("labels", "label", "targets", "target", "y")
_SHAPES = (
    "return an iterable of batches to calibrate with, or a dict of them: train (or calibration), val and test"
)
ENDLESS = 4096
"""Images that are taken of what has no length."""
MOST_BYTES = 2 << 30
"""And of anything, as all is kept in memory."""


def load_own(spec: str) -> Data:
    """What ``FILE.py:FUNCTION`` returns, read once into memory; random numbers are the same every time.

    One iterable of batches is for calibration alone: a tenth of it is held out, and nothing is trained on it. A dict (a
    namespace, three in a tuple) may hold ``train`` or ``calibration``, ``val`` and ``test``; without ``val`` a tenth is
    held out, without ``test`` it is ``val``. A batch is a tensor of inputs, or a tuple, list or dict with one first;
    whole numbers second, one for each input, are its classes. Raises ModelFileError and DataError in one line.
    """
    function = load_factory(spec, "--data")
    with isolated.seeded(), redirect_stdout(sys.stderr):
        named = _named(spec, call(function, {}))
        parts = {name: _Reader(spec, function, name).read(source) for name, source in named.items()}
    return _data(spec, parts)


@dataclass(frozen=True)
class _Part:
    """``labels`` is None where targets are no classes (``others``), or there are none."""

    inputs: Tensor
    labels: Tensor | None
    others: bool
    told: str


# -- what was returned


def _named(spec: str, found: Any) -> dict[str, Any]:
    """The parts, under the names that the user gave them."""
    if hasattr(found, "_asdict"):
        found = found._asdict()
    elif isinstance(found, SimpleNamespace):
        found = vars(found)
    elif isinstance(found, tuple) and found and not any(map(_is_batch, found)):
        if len(found) != 3:
            raise OwnDataError(f"--data {spec} returned {len(found)} things in a tuple: {_SHAPES}")
        found = dict(zip(("train", "val", "test"), found, strict=True))
    if not isinstance(found, Mapping):
        return {"calibration": found}
    parts = {name: part for name, part in found.items() if part is not None}
    if strange := [name for name in parts if name not in _NAMES]:
        raise OwnDataError(f"--data {spec} returned a dict with {strange[0]!r}: {_SHAPES}")
    kinds = [_NAMES[name] for name in parts]
    if "train" not in kinds or len(set(kinds)) < len(kinds):
        raise OwnDataError(f"--data {spec} returned a dict of {', '.join(parts) or 'nothing'}: {_SHAPES}")
    return parts


def _is_batch(value: Any) -> bool:
    return _input(value) is not None


def _input(batch: Any) -> Tensor | None:
    """The first tensor of a batch."""
    if isinstance(batch, Mapping):
        return next((v for v in batch.values() if isinstance(v, Tensor)), None)
    first = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
    return first if isinstance(first, Tensor) else None


def _target(batch: Any) -> Any:
    if isinstance(batch, Mapping):
        return next((batch[name] for name in _LABELS if name in batch), None)
    return batch[1] if isinstance(batch, (tuple, list)) and len(batch) > 1 else None


# -- one part


class _Reader:
    """Goes through one part. ``name``: what the user calls it."""

    def __init__(self, spec: str, function: Factory, name: str) -> None:
        self.spec, self.function, self.name = spec, function, name
        self.inputs: list[Tensor] = []
        self.labels: list[Tensor] | None = []
        self.others = False

    def read(self, source: Any) -> _Part:
        told = self._fill(source)
        if not self.inputs:
            raise self._refused("is empty; one that was gone through already, such as a generator, is, too")
        inputs = torch.cat(self.inputs)
        if not inputs.isfinite().all():
            raise self._refused("holds inputs that are not finite")
        labels = None if self.labels is None else torch.cat(self.labels)
        if labels is not None and int(labels.min()) < 0:
            raise self._refused(f"holds the label {int(labels.min())}: number the classes from 0 on")
        return _Part(inputs, labels, self.others, told)

    def _fill(self, source: Any) -> str:
        """Take batches, all or as many as are needed; what is to be said where they are not all."""
        most = None if _has_length(source) else ENDLESS
        for batch in self._batches(source):
            inputs = self._checked(batch)
            room = max(MOST_BYTES // (inputs[:1].nbytes or 1) - self._count, 1)
            room = room if most is None else min(room, most - self._count)
            target = _target(batch)
            labels = self._classes(target, inputs)
            self.others |= target is not None and labels is None
            self.inputs.append(inputs[:room].float() if inputs.is_floating_point() else inputs[:room])
            if labels is None or self.labels is None:
                self.labels = None
            else:
                self.labels.append(labels[:room])
            if len(inputs) >= room:
                why = "as it has no length" if self._count == most else f"which are {MOST_BYTES >> 30} GB"
                return f"{self.spec}: the first {self._count} inputs of {self.name} are taken, {why}"
        return ""

    @property
    def _count(self) -> int:
        return sum(map(len, self.inputs))

    def _batches(self, source: Any) -> Iterator[Any]:
        if isinstance(source, torch.utils.data.Dataset) and not isinstance(source, torch.utils.data.IterableDataset):
            raise self._refused("is a Dataset of single examples: return DataLoader(dataset, batch_size=64)")
        if isinstance(source, (str, bytes, Mapping)) or not isinstance(source, Iterable):
            kind = "nothing" if source is None else f"a {type(source).__name__}"
            raise self._refused(f"is {kind}: {_SHAPES}")
        try:
            yield from [source] if isinstance(source, Tensor) else source
        except Exception as error:  # of the user's own loader
            raise self._refused(f"can't be read: {cause(error, self.function.where)}") from error

    def _checked(self, batch: Any) -> Tensor:
        inputs, number = _input(batch), len(self.inputs) + 1
        if inputs is None:
            kind = _described(batch)
            raise self._refused(f"has no tensor first in batch {number}, {kind}: collate inputs of one size")
        if inputs.ndim < 2 or not len(inputs) or _is_number(_target(batch)):
            raise self._refused(
                f"has inputs of shape {tuple(inputs.shape)} in batch {number}: give batches, with the examples along "
                "the first axis"
            )
        if self.inputs and inputs.shape[1:] != self.inputs[0].shape[1:]:
            one, other = tuple(self.inputs[0].shape[1:]), tuple(inputs.shape[1:])
            raise self._refused(f"has inputs of several shapes, {one} and, in batch {number}, {other}: give one size")
        return inputs.detach().cpu()

    def _classes(self, target: Any, inputs: Tensor) -> Tensor | None:
        """The target as classes, if it is a whole number for each input."""
        whole = isinstance(target, Tensor) and not (target.is_floating_point() or target.is_complex())
        if not whole or target.dtype == torch.bool or target.shape != inputs.shape[:1]:
            return None
        return target.detach().cpu().long()

    def _refused(self, why: str) -> DataError:
        return OwnDataError(f"--data {self.spec}: {self.name} {why}")


def _has_length(source: Any) -> bool:
    """A loader of an IterableDataset has one in name only."""
    try:
        return len(source) >= 0
    except TypeError:
        return False


def _is_number(target: Any) -> bool:
    return isinstance(target, (int, float)) or (isinstance(target, Tensor) and target.ndim == 0)


def _described(batch: Any) -> str:
    inside = f" of {type(batch[0]).__name__}" if isinstance(batch, (tuple, list)) and batch else ""
    return f"a {type(batch).__name__}{inside}"


# -- all of them


def _data(spec: str, parts: Mapping[str, _Part]) -> Data:
    by_kind = {_NAMES[name]: part for name, part in parts.items()}
    _check_alike(spec, parts)
    train = by_kind["train"]
    told = [part.told for part in parts.values() if part.told]
    val = by_kind.get("val")
    splits: dict[str, Split] = {}
    if val is None:
        count = len(train.inputs)
        if count < 2:
            raise OwnDataError(f"--data {spec} gives 1 input in all: give more")
        rest, held = hold_out(torch.full((count,), -1), count // 10)
        splits = {"train": replace(_split(train), indices=rest), "val": replace(_split(train), indices=held)}
        told.append(f"{spec}: no val, so {len(held)} of {count} inputs are held out")
    else:
        splits = {"train": _split(train), "val": _split(val)}
    splits["test"] = _split(by_kind["test"]) if "test" in by_kind else splits["val"]
    judged = [by_kind.get(name, val or train) for name in ("val", "test")]
    classes = 0
    if all(part.labels is not None for part in judged):
        classes = 1 + max(int(part.labels.max()) for part in by_kind.values() if part.labels is not None)
    only = "calibration" in parts or train.labels is None
    shape = tuple(train.inputs.shape[1:])
    names = tuple(map(str, range(classes)))
    return Data(
        spec, splits["train"], splits["val"], splits["test"], shape, names, own=True, only_calibration=only,
        others=any(part.others for part in parts.values()), told=tuple(told),
    )  # fmt: skip


def synthetic(shape: tuple[int, ...], count: int, held_out: int, make: Callable[[], Tensor], told: str) -> Data:
    """``count`` inputs of this shape to calibrate with, and ``held_out`` more, which ``make`` makes from a network when
    they are first looked at."""
    both = count + held_out
    images = Images(torch.full((both,), -1), make)
    parts = torch.arange(both).split([count, held_out])
    train, val = (TensorSplit(images, indices, AS_THEY_ARE) for indices in parts)
    return Data("synthetic", train, val, val, shape, (), only_calibration=True, synthetic=True, told=(told,))


def _check_alike(spec: str, parts: Mapping[str, _Part]) -> None:
    (first, part), *others = parts.items()
    for name, other in others:
        if other.inputs.shape[1:] != part.inputs.shape[1:] or other.inputs.dtype != part.inputs.dtype:
            one, two = (f"{tuple(p.inputs.shape[1:])} {str(p.inputs.dtype)[6:]}" for p in (part, other))
            raise OwnDataError(f"--data {spec}: inputs of {first} are {one}, those of {name} {two}: give the same")


def _split(part: _Part) -> TensorSplit:
    labels = torch.full((len(part.inputs),), -1) if part.labels is None else part.labels
    return TensorSplit(Images(labels, lambda: part.inputs), torch.arange(len(labels)), AS_THEY_ARE)


def judged_by(data: Data, scores: int) -> Data:
    """The user's own data for a network that gives so many class scores, 0 for one that is no classifier: then whole
    numbers beside the inputs are no classes. Raises DataError where there are more classes than scores."""
    if scores and data.num_classes > scores:
        raise DataError(f"--data {data.name} has the label {data.num_classes - 1}, and the network {scores} outputs")
    return replace(data, classes=tuple(map(str, range(scores))))
