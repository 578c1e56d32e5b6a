"""VGG-Small, the network that binary networks are compared on, with real weights (Qin et al. 2020, "IR-Net").

Source:   vgg_small()
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class VGGSmall(nn.Module):
    """Six 3x3 convolutions, three poolings and a linear layer.

    Each layer is convolution, pooling, batch normalisation, hardtanh, in this order, the first one without hardtanh: a
    binary twin takes the sign of what hardtanh leaves in [-1, 1].

    Args:
        num_classes: width of the last layer.
        in_channels: channels of the image.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(in_channels, 51, kernel_size=3, padding=1, bias=False)
        self.bn0 = nn.BatchNorm2d(51)
        self.conv1 = nn.Conv2d(51, 64, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = nn.Conv2d(64, 153, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(153)
        self.conv3 = nn.Conv2d(153, 179, kernel_size=3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(179)
        self.conv4 = nn.Conv2d(179, 204, kernel_size=3, padding=1, bias=False)
        self.bn4 = nn.BatchNorm2d(204)
        self.conv5 = nn.Conv2d(204, 256, kernel_size=3, padding=1, bias=False)
        self.bn5 = nn.BatchNorm2d(256)
        self.pool = nn.MaxPool2d(kernel_size=2)
        self.fc = nn.Linear(4096, num_classes)
        self.last_norm: nn.Module = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.begin(x)
        x = F.hardtanh(self.bn1(self.pool(self.conv1(x))))
        x = F.hardtanh(self.bn2(self.conv2(x)))
        x = F.hardtanh(self.bn3(self.pool(self.conv3(x))))
        x = F.hardtanh(self.bn4(self.conv4(x)))
        x = F.hardtanh(self.bn5(self.pool(self.conv5(x))))
        return self.last_norm(self.fc(x.flatten(start_dim=1)))

    def begin(self, x: Tensor) -> Tensor:
        """What reads the image: no activation behind its batch norm."""
        return self.bn0(self.conv0(x))


def vgg_small(num_classes: int = 10, in_channels: int = 3) -> VGGSmall:
    """VGG-Small with 128, 256 and 512 channels."""
    return VGGSmall(num_classes, in_channels)
