"""Inputs coded otherwise than a data set has them: ``--data NAME+thermometer``, ``NAME+normalize=M,M,M/S,S,S``."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from ...pruners.errors import DataError
from ..binarization import thermometer
from .sets import Data, calibration_images, coded
from .splits import Batch, Normalization

_LOOKED_AT = 500
_EXAMPLE = "normalize=0.5,0.5,0.5/0.25,0.25,0.25"


def coder(name: str, coding: str) -> Callable[[Data], Data]:
    """What a word behind the name of a data set asks for. Raises DataError for a word that isn't known."""
    if coding == "thermometer":
        return thermometer_coded
    word, equals, numbers = coding.partition("=")
    if word == "normalize" and equals:
        return partial(normalized, wanted=_normalization(name, numbers))
    raise DataError(f"unknown coding {coding!r} of {name}: there are {name}+thermometer and {name}+{_EXAMPLE}")


def _normalization(name: str, text: str) -> Normalization:
    try:
        mean, std = (tuple(float(number) for number in part.split(",")) for part in text.split("/"))
    except ValueError:
        mean, std = (), ()
    if not mean or len(mean) != len(std) or not all(map(math.isfinite, mean)) or not all(0 < s < math.inf for s in std):
        raise DataError(
            f"{name}+normalize={text}: write the mean of each channel, a slash, and the deviation of each, for values "
            f"from 0 to 1: {name}+{_EXAMPLE}"
        )
    return Normalization(mean, std)


def thermometer_coded(data: Data, levels: int = 3) -> Data:
    """Each channel as ``levels`` channels of signs. The thresholds follow from training images, the same every time."""
    coding = thermometer(calibration_images(data, _LOOKED_AT), levels)
    channels, height, width = data.input_shape
    shape = (channels * levels, height, width)
    return replace(_recode(data, coding), name=f"{data.name}+thermometer", input_shape=shape)


def normalized(data: Data, wanted: Normalization) -> Data:
    """Images normalised by other means and deviations than the data set's usual ones."""
    channels = data.input_shape[0]
    if data.normalization is None:
        raise DataError(f"{data.name}+normalize: signs can't be normalised; write +normalize before +thermometer")
    if len(wanted.mean) != channels:
        raise DataError(f"{data.name}+normalize: its images have {channels} channels, not {len(wanted.mean)}")
    return _recode(data, Renormalized(data.normalization, wanted), wanted)


@dataclass(frozen=True)
class Renormalized:
    """From images that are normalised in one way to the other."""

    now: Normalization
    wanted: Normalization

    def __call__(self, images: Tensor) -> Tensor:
        means, stds, wanted_means, wanted_stds = (
            torch.tensor(numbers, device=images.device).view(-1, 1, 1)
            for numbers in (self.now.mean, self.now.std, self.wanted.mean, self.wanted.std)
        )
        return (images * stds + means - wanted_means) / wanted_stds


def _recode(data: Data, coding: Callable[[Tensor], Tensor], normalization: Normalization | None = None) -> Data:
    return coded(data, partial(_images_coded, coding=coding), normalization)


def _images_coded(images: Tensor, labels: Tensor, coding: Callable[[Tensor], Tensor]) -> Batch:
    return coding(images), labels
