"""LeNet-5 as in the XNOR-Net experiments on MNIST: batch norm, activation, convolution, pooling, in this order."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

Layer = Callable[..., nn.Module]


class BinaryLeNet5(nn.Module):
    """Two 5x5 convolutions and two linear ("inner product") layers.

    Args:
        num_classes: width of the last layer.
        in_channels: channels of the image.
        image_size: side of the image. Below 16x16 the convolutions are padded, or nothing would be left.
        conv: makes the second convolution; a binary one takes the sign of what ``bn2`` gives it.
        linear: makes the first linear layer.
        first: makes the first convolution, which reads the image.
        last: makes the last linear layer; a binary one is followed by a batch norm.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 1,
        image_size: int = 28,
        conv: Layer = nn.Conv2d,
        linear: Layer = nn.Linear,
        first: Layer = nn.Conv2d,
        last: Layer = nn.Linear,
    ) -> None:
        super().__init__()
        padding = 0 if image_size >= 16 else 2
        border = 4 - 2 * padding  # what a convolution takes off the side
        side = ((image_size - border) // 2 - border) // 2
        self.conv1 = first(in_channels, 20, kernel_size=5, padding=padding)
        self.bn1 = nn.BatchNorm2d(20, eps=1e-4, affine=False)
        self.bn2 = nn.BatchNorm2d(20, eps=1e-4)
        self.conv2 = conv(20, 50, kernel_size=5, padding=padding)
        self.bn3 = nn.BatchNorm2d(50, eps=1e-4)
        self.ip1 = linear(50 * side * side, 500)
        self.bn4 = nn.BatchNorm1d(500, eps=1e-4, affine=False)  # without a scale, sums of signs are large
        self.ip2 = last(500, num_classes)
        self.last_norm = nn.Identity() if last is nn.Linear else nn.BatchNorm1d(num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.conv2(self.bn2(x))), 2)
        x = self.bn3(x).flatten(1)
        x = self.bn4(F.relu(self.ip1(x)))
        return self.last_norm(self.ip2(x))


def lenet5_binary(
    num_classes: int = 10,
    in_channels: int = 1,
    image_size: int = 28,
    conv: Layer = nn.Conv2d,
    linear: Layer = nn.Linear,
    first: Layer = nn.Conv2d,
    last: Layer = nn.Linear,
) -> BinaryLeNet5:
    """LeNet-5 with 20 and 50 channels, in the form for binary layers."""
    return BinaryLeNet5(num_classes, in_channels, image_size, conv, linear, first, last)
