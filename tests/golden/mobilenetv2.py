"""MobileNetV2 for small images (Sandler et al. 2018, "Inverted Residuals and Linear Bottlenecks").

Source:   mobilenetv2()
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class InvertedResidual(nn.Module):
    """Expand with 1x1, filter each channel with 3x3, project with 1x1; a shortcut where the shape stays."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, channels: int, residual: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, stride=stride, padding=1, groups=channels, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu6(self.bn1(self.conv1(x)))
        out = F.relu6(self.bn2(self.conv2(out)))
        # the projection has no activation: it would destroy information in few channels
        out = self.bn3(self.conv3(out))
        return x + out if self.residual else out


class MobileNetV2(nn.Module):
    """A stem, seventeen inverted residuals, a 1x1 convolution and a linear layer.

    Args:
        num_classes: width of the last layer.
        in_channels: channels of the image.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 12, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(12)
        self.blocks = nn.Sequential(
            InvertedResidual(12, 9, 1, 16),
            InvertedResidual(9, 9, 1, 67),
            InvertedResidual(9, 9, 1, 72, residual=True),
            InvertedResidual(9, 22, 2, 86),
            InvertedResidual(22, 22, 1, 76, residual=True),
            InvertedResidual(22, 22, 1, 96, residual=True),
            InvertedResidual(22, 44, 2, 115),
            InvertedResidual(44, 44, 1, 153, residual=True),
            InvertedResidual(44, 44, 1, 192, residual=True),
            InvertedResidual(44, 44, 1, 230, residual=True),
            InvertedResidual(44, 38, 1, 268),
            InvertedResidual(38, 38, 1, 288, residual=True),
            InvertedResidual(38, 38, 1, 345, residual=True),
            InvertedResidual(38, 64, 2, 403),
            InvertedResidual(64, 64, 1, 480, residual=True),
            InvertedResidual(64, 64, 1, 576, residual=True),
            InvertedResidual(64, 128, 1, 672),
        )
        self.conv2 = nn.Conv2d(128, 640, kernel_size=1, bias=False)
        self.bn2 = nn.BatchNorm2d(640)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.2)
        self.linear = nn.Linear(640, num_classes)

        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.bn1(self.conv1(x)))
        x = self.blocks(x)
        x = F.relu6(self.bn2(self.conv2(x)))
        x = self.pool(x).flatten(1)
        return self.linear(self.dropout(x))


def mobilenetv2(num_classes: int = 10, in_channels: int = 3) -> MobileNetV2:
    """MobileNetV2 of width 1.0."""
    return MobileNetV2(num_classes, in_channels)
