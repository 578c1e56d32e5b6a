"""Residual networks for small images (He et al. 2015, "Deep Residual Learning", section 4.2).

Source:   resnet44()
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Bottleneck(nn.Module):
    """1x1 down, 3x3, 1x1 up to four times the channels, and a shortcut around them."""

    def __init__(
        self,
        in_channels: int,
        conv1_channels: int,
        channels: int,
        out_channels: int,
        stride: int = 1,
        pad: tuple[int, int] = (0, 0),
        downsample: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, conv1_channels, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(conv1_channels)
        self.conv2 = nn.Conv2d(conv1_channels, channels, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = downsample
        self.stride = stride
        self.pad = pad  # channels of zeros before and after the strided input

    def shortcut(self, x: Tensor) -> Tensor:
        if self.downsample is not None:
            return self.downsample(x)
        # the first stage widens without a stride
        if self.stride == 1 and self.pad == (0, 0):
            return x
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, *self.pad))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
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
            Bottleneck(6, 8, 9, 39, pad=(17, 16)),
            Bottleneck(39, 6, 8, 39),
            Bottleneck(39, 9, 11, 39),
            Bottleneck(39, 6, 8, 39),
            Bottleneck(39, 9, 11, 39),
            Bottleneck(39, 6, 8, 39),
            Bottleneck(39, 9, 11, 39),
        )
        self.layer2 = nn.Sequential(
            Bottleneck(39, 12, 16, 77, stride=2, pad=(19, 19)),
            Bottleneck(77, 22, 12, 77),
            Bottleneck(77, 16, 19, 77),
            Bottleneck(77, 22, 12, 77),
            Bottleneck(77, 16, 19, 77),
            Bottleneck(77, 22, 12, 77),
            Bottleneck(77, 16, 19, 77),
        )
        self.layer3 = nn.Sequential(
            Bottleneck(77, 44, 25, 141, stride=2, pad=(32, 32)),
            Bottleneck(141, 38, 44, 141),
            Bottleneck(141, 25, 32, 141),
            Bottleneck(141, 38, 44, 141),
            Bottleneck(141, 25, 32, 141),
            Bottleneck(141, 38, 44, 141),
            Bottleneck(141, 25, 32, 141),
        )
        self.linear = nn.Linear(141, num_classes)

        for m in self.modules():
            if isinstance(m, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(m.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        # global average over what is left of the image
        x = x.mean(dim=(2, 3))
        return self.linear(x)


def resnet44(num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """ResNet-44: seven blocks a stage, basic or bottleneck."""
    return ResNet(num_classes, in_channels)
