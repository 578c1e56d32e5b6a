"""LeNet-5 (LeCun et al. 1998), with the widths of the XNOR-Net experiments on MNIST.

Source:   lenet5()
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class LeNet5(nn.Module):
    """Two 5x5 convolutions and two linear ("inner product") layers.

    Args:
        num_classes: width of the last layer.
        in_channels: channels of the image.
        image_size: side of the image. Below 16x16 the convolutions are padded, or nothing would be left.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 1, image_size: int = 28) -> None:
        super().__init__()
        padding = 0 if image_size >= 16 else 2
        border = 4 - 2 * padding  # what a convolution takes off the side
        side = ((image_size - border) // 2 - border) // 2
        self.conv1 = nn.Conv2d(in_channels, 8, kernel_size=5, padding=padding)
        self.bn1 = nn.BatchNorm2d(8, eps=1e-4, affine=False)
        self.conv2 = nn.Conv2d(8, 25, kernel_size=5, padding=padding)
        self.ip1 = nn.Linear(25 * side * side, 300)
        self.ip2 = nn.Linear(300, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.view(x.size(0), -1)
        x = F.relu(self.ip1(x))
        return self.ip2(x)


def lenet5(num_classes: int = 10, in_channels: int = 1, image_size: int = 28) -> LeNet5:
    """LeNet-5 with 20 and 50 channels."""
    return LeNet5(num_classes, in_channels, image_size)
