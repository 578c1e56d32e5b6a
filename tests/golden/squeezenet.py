"""SqueezeNet with batch normalisation, for small images (Iandola et al. 2016).

Source:   squeezenet()
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Fire(nn.Module):
    """Squeeze to few channels with 1x1, expand again with 1x1 and 3x3 side by side."""

    def __init__(
        self, in_channels: int, squeeze_channels: int, expand1x1_channels: int, expand3x3_channels: int
    ) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, squeeze_channels, kernel_size=1, bias=False)
        self.squeeze_bn = nn.BatchNorm2d(squeeze_channels)
        self.expand1x1 = nn.Conv2d(squeeze_channels, expand1x1_channels, kernel_size=1, bias=False)
        self.expand1x1_bn = nn.BatchNorm2d(expand1x1_channels)
        self.expand3x3 = nn.Conv2d(squeeze_channels, expand3x3_channels, kernel_size=3, padding=1, bias=False)
        self.expand3x3_bn = nn.BatchNorm2d(expand3x3_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze_bn(self.squeeze(x)))
        left = self.expand1x1_bn(self.expand1x1(x))
        right = self.expand3x3_bn(self.expand3x3(x))
        return F.relu(torch.cat([left, right], dim=1))


class SqueezeNet(nn.Module):
    """Eight fire modules between two convolutions; the last one gives one map per class."""

    def __init__(self, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 38, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(38)
        self.fire2 = Fire(38, 8, 38, 44)
        self.fire3 = Fire(82, 6, 32, 38)
        self.fire4 = Fire(70, 22, 51, 64)
        self.fire5 = Fire(115, 19, 89, 51)
        self.fire6 = Fire(140, 24, 115, 134)
        self.fire7 = Fire(249, 19, 96, 115)
        self.fire8 = Fire(211, 44, 102, 128)
        self.fire9 = Fire(230, 38, 179, 102)
        self.dropout = nn.Dropout(0.5)
        self.conv10 = nn.Conv2d(281, num_classes, kernel_size=1)
        # three poolings on 32x32 leave 4x4; an image of 8x8 keeps one pixel
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.bn1(self.conv1(x))))
        x = self.fire4(self.fire3(self.fire2(x)))
        x = self.pool(x)
        x = self.fire8(self.fire7(self.fire6(self.fire5(x))))
        x = self.pool(x)
        x = self.fire9(x)
        x = self.conv10(self.dropout(x))
        return F.adaptive_avg_pool2d(x, 1).flatten(1)


def squeezenet(num_classes: int = 10, in_channels: int = 3) -> SqueezeNet:
    """SqueezeNet 1.0 with batch normalisation."""
    return SqueezeNet(num_classes, in_channels)
