"""Inputs coded as signs: ``--data NAME+thermometer``."""

from __future__ import annotations

from dataclasses import replace

from training.binarization.modules import thermometer
from training.data import Data, calibration_images
from training.splits import CodedSplit

_LOOKED_AT = 500


def thermometer_coded(data: Data, levels: int = 3) -> Data:
    """Each channel as ``levels`` channels of signs. The thresholds follow from training images, the same every time."""
    coding = thermometer(calibration_images(data, _LOOKED_AT), levels)
    channels, height, width = data.input_shape
    train, val, test = (CodedSplit(split, coding) for split in (data.train, data.val, data.test))
    shape = (channels * levels, height, width)
    return replace(data, name=f"{data.name}+thermometer", train=train, val=val, test=test, input_shape=shape)
