"""VGG-Small, the network that binary networks are compared on, with real weights (Qin et al. 2020, "IR-Net").

Source:   vgg_small()
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

Layer = Callable[..., nn.Module]


class VGGSmall(nn.Module):
    """Six 3x3 convolutions, three poolings and a linear layer.

    Each layer is convolution, pooling, batch normalisation, hardtanh, in this order, the first one without hardtanh: a
    binary twin takes the sign of what hardtanh leaves in [-1, 1].

    Args:
        num_classes: width of the last layer.
        in_channels: channels of the image.
        image_size: side of the image.
        conv: makes the convolutions after the first.
        first: makes the first convolution.
        last: makes the linear layer; a binary one is followed by a batch norm.
        norm: makes the norms behind the convolutions.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: int = 32,
        conv: Layer = nn.Conv2d,
        first: Layer = nn.Conv2d,
        last: Layer = nn.Linear,
        norm: Layer = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        side = image_size // 8
        if side == 0:
            raise ValueError(f"VGG-Small halves the image three times: image_size must be 8 or more, not {image_size}")
        self.conv0 = first(in_channels, 51, kernel_size=3, padding=1, bias=False)
        self.bn0 = norm(51)
        self.conv1 = conv(51, 64, kernel_size=3, padding=1, bias=False)
        self.bn1 = norm(64)
        self.conv2 = conv(64, 153, kernel_size=3, padding=1, bias=False)
        self.bn2 = norm(153)
        self.conv3 = conv(153, 179, kernel_size=3, padding=1, bias=False)
        self.bn3 = norm(179)
        self.conv4 = conv(179, 204, kernel_size=3, padding=1, bias=False)
        self.bn4 = norm(204)
        self.conv5 = conv(204, 256, kernel_size=3, padding=1, bias=False)
        self.bn5 = norm(256)
        self.pool = nn.MaxPool2d(kernel_size=2)
        self.fc = last(256 * side * side, num_classes)
        self.last_norm: nn.Module = nn.Identity()
        if last is not nn.Linear:
            self.last_norm = nn.BatchNorm1d(num_classes)

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


def vgg_small(
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: int = 32,
    conv: Layer = nn.Conv2d,
    first: Layer = nn.Conv2d,
    last: Layer = nn.Linear,
    norm: Layer = nn.BatchNorm2d,
) -> VGGSmall:
    """VGG-Small with 128, 256 and 512 channels."""
    return VGGSmall(num_classes, in_channels, image_size, conv, first, last, norm)
