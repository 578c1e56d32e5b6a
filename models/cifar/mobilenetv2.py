"""MobileNetV2 for small images (Sandler et al. 2018, "Inverted Residuals and Linear Bottlenecks")."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from secateur.pruners.decorators import mb_conv

# expansion, output channels, blocks, stride of the first block; the first two strides of the paper's table are
# for 224x224 images and are gone here
STAGES = [
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
]


@mb_conv(lType="mb_conv", convs=["conv1", "conv2", "conv3"])
class InvertedResidual(nn.Module):
    """Expand with 1x1, filter each channel with 3x3, project with 1x1; a shortcut where the shape stays."""

    def __init__(self, in_channels: int, out_channels: int, expansion: int, stride: int) -> None:
        super().__init__()
        channels = expansion * in_channels
        self.conv1 = nn.Conv2d(in_channels, channels, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, stride=stride, padding=1, groups=channels, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.residual = stride == 1 and in_channels == out_channels

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
        image_size: side of the image. A stage halves it only while at least 4x4 is left.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 3, image_size: int = 32) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 32, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        blocks: list[nn.Module] = []
        channels, side = 32, image_size
        for expansion, out_channels, repeats, stride in STAGES:
            if side <= 4:
                stride = 1
            side = math.ceil(side / stride)
            for i in range(repeats):
                blocks.append(InvertedResidual(channels, out_channels, expansion, stride if i == 0 else 1))
                channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.conv2 = nn.Conv2d(channels, 1280, kernel_size=1, bias=False)
        self.bn2 = nn.BatchNorm2d(1280)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.2)
        self.linear = nn.Linear(1280, num_classes)

        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.bn1(self.conv1(x)))
        x = self.blocks(x)
        x = F.relu6(self.bn2(self.conv2(x)))
        x = self.pool(x).flatten(1)
        return self.linear(self.dropout(x))


def mobilenetv2(num_classes: int = 10, in_channels: int = 3, image_size: int = 32) -> MobileNetV2:
    """MobileNetV2 of width 1.0."""
    return MobileNetV2(num_classes, in_channels, image_size)
