"""Residual networks for small images (He et al. 2015, "Deep Residual Learning", section 4.2).

Source:   resnet20()
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut around them."""

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        conv1_channels: int,
        channels: int,
        stride: int = 1,
        pad: tuple[int, int] = (0, 0),
        downsample: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, conv1_channels, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(conv1_channels)
        self.conv2 = nn.Conv2d(conv1_channels, channels, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = downsample
        self.stride = stride
        self.pad = pad  # channels of zeros before and after the strided input

    def shortcut(self, x: Tensor) -> Tensor:
        if self.downsample is not None:
            return self.downsample(x)
        if self.stride == 1:
            return x
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, *self.pad))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


class ResNet(nn.Module):
    """A stem and three stages of 16, 32 and 64 channels, halving the image between them.

    Args:
        num_classes: width of the last layer.
        in_channels: channels of the image.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()

        self.conv1 = nn.Conv2d(in_channels, 6, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.layer1 = nn.Sequential(
            BasicBlock(6, 8, 6),
            BasicBlock(6, 9, 6),
            BasicBlock(6, 11, 6),
        )
        self.layer2 = nn.Sequential(
            BasicBlock(
                6,
                12,
                16,
                stride=2,
                downsample=nn.Sequential(nn.Conv2d(6, 16, kernel_size=1, stride=2, bias=False), nn.BatchNorm2d(16)),
            ),
            BasicBlock(16, 19, 16),
            BasicBlock(16, 22, 16),
        )
        self.layer3 = nn.Sequential(
            BasicBlock(
                16,
                25,
                32,
                stride=2,
                downsample=nn.Sequential(nn.Conv2d(16, 32, kernel_size=1, stride=2, bias=False), nn.BatchNorm2d(32)),
            ),
            BasicBlock(32, 38, 32),
            BasicBlock(32, 44, 32),
        )
        self.linear = nn.Linear(32, num_classes)

        for m in self.modules():
            if isinstance(m, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(m.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        # global average over what is left of the image
        x = x.mean(dim=(2, 3))
        return self.linear(x)


def resnet20(num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """ResNet-20: three blocks a stage."""
    return ResNet(num_classes, in_channels)
