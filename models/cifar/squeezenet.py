"""SqueezeNet with batch normalisation, for small images (Iandola et al. 2016)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.pruners.decorators import fire


@fire(lType="fire", convs=["squeeze", "expand1x1", "expand3x3"])
class Fire(nn.Module):
    """Squeeze to few channels with 1x1, expand again with 1x1 and 3x3 side by side."""

    def __init__(self, in_channels: int, squeeze_channels: int, expand_channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, squeeze_channels, kernel_size=1, bias=False)
        self.squeeze_bn = nn.BatchNorm2d(squeeze_channels)
        self.expand1x1 = nn.Conv2d(squeeze_channels, expand_channels, kernel_size=1, bias=False)
        self.expand1x1_bn = nn.BatchNorm2d(expand_channels)
        self.expand3x3 = nn.Conv2d(squeeze_channels, expand_channels, kernel_size=3, padding=1, bias=False)
        self.expand3x3_bn = nn.BatchNorm2d(expand_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze_bn(self.squeeze(x)))
        left = self.expand1x1_bn(self.expand1x1(x))
        right = self.expand3x3_bn(self.expand3x3(x))
        return F.relu(torch.cat([left, right], dim=1))


class SqueezeNet(nn.Module):
    """Eight fire modules between two convolutions; the last one gives one map per class."""

    def __init__(self, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 96, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(96)
        self.fire2 = Fire(96, 16, 64)
        self.fire3 = Fire(128, 16, 64)
        self.fire4 = Fire(128, 32, 128)
        self.fire5 = Fire(256, 32, 128)
        self.fire6 = Fire(256, 48, 192)
        self.fire7 = Fire(384, 48, 192)
        self.fire8 = Fire(384, 64, 256)
        self.fire9 = Fire(512, 64, 256)
        self.dropout = nn.Dropout(0.5)
        self.conv10 = nn.Conv2d(512, num_classes, kernel_size=1)
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
