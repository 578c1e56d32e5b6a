"""An AlexNet for small images in which every layer may be binary, with batch norms that learn nothing."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor, nn

Layer = Callable[..., nn.Module]


class BinaryConv(nn.Module):
    """Convolution, pooling, batch normalisation, hardtanh: a binary layer takes the sign of what hardtanh leaves."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, conv: Layer, stride: int = 1, pool: bool = False
    ) -> None:
        super().__init__()
        self.conv = conv(
            in_channels, out_channels, kernel_size=kernel_size, stride=stride, padding=kernel_size // 2, bias=False
        )
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()
        self.bn = nn.BatchNorm2d(out_channels, affine=False)
        self.hardtanh = nn.Hardtanh(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.hardtanh(self.bn(self.pool(self.conv(x))))


class BinaryHidden(nn.Module):
    """Linear layer, batch normalisation, hardtanh."""

    def __init__(self, in_features: int, out_features: int, linear: Layer) -> None:
        super().__init__()
        self.fc = linear(in_features, out_features, bias=False)
        self.bn = nn.BatchNorm1d(out_features, affine=False)
        self.hardtanh = nn.Hardtanh(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.hardtanh(self.bn(self.fc(x)))


class BinaryAlexNet(nn.Module):
    """Five convolutions and three linear layers."""

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: int = 32,
        hidden: int = 4096,
        conv: Layer = nn.Conv2d,
        linear: Layer = nn.Linear,
        first: Layer = nn.Conv2d,
        last: Layer = nn.Linear,
    ) -> None:
        super().__init__()
        stride = 2 if image_size >= 16 else 1
        side = math.ceil(image_size / stride) // 8  # three poolings follow
        if side == 0:
            raise ValueError(f"AlexNet halves the image three times: image_size must be 8 or more, not {image_size}")
        self.features = nn.Sequential(
            BinaryConv(in_channels, 64, 5, first, stride=stride, pool=True),
            BinaryConv(64, 192, 5, conv, pool=True),
            BinaryConv(192, 384, 3, conv),
            BinaryConv(384, 256, 3, conv),
            BinaryConv(256, 256, 3, conv, pool=True),
        )
        self.hidden = nn.Sequential(
            BinaryHidden(256 * side * side, hidden, linear),
            BinaryHidden(hidden, hidden, linear),
        )
        self.fc = last(hidden, num_classes)
        self.last_norm = nn.Identity() if last is nn.Linear else nn.BatchNorm1d(num_classes, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x).flatten(1)
        return self.last_norm(self.fc(self.hidden(x)))


def alexnet_binary(
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: int = 32,
    hidden: int = 4096,
    conv: Layer = nn.Conv2d,
    linear: Layer = nn.Linear,
    first: Layer = nn.Conv2d,
    last: Layer = nn.Linear,
) -> BinaryAlexNet:
    """AlexNet with batch norm for small images, in the form for binary layers."""
    return BinaryAlexNet(num_classes, in_channels, image_size, hidden, conv, linear, first, last)
