"""VGG with batch normalisation, for small images (Simonyan & Zisserman 2014).

Source:   vgg11()
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# output channels of each 3x3 convolution; "M" is a 2x2 max pooling
VGG11: list[int | str] = [25, "M", 64, "M", 153, 179, "M", 204, 256, "M", 307, 358, "M"]


class VGG(nn.Module):
    """A chain of 3x3 convolutions and one linear layer.

    Args:
        layout: channels and poolings, in order.
        num_classes: width of the last layer.
        in_channels: channels of the image.
        image_size: side of the image. Poolings for which nothing is left to halve are left out, so an image
            of 8x8 meets three of the five.
    """

    def __init__(
        self, layout: list[int | str], num_classes: int = 10, in_channels: int = 3, image_size: int = 32
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, side = in_channels, image_size
        for item in layout:
            if isinstance(item, int):
                layers.append(nn.Conv2d(channels, item, kernel_size=3, padding=1, bias=False))
                layers.append(nn.BatchNorm2d(item))
                layers.append(nn.ReLU(inplace=True))
                channels = item
            elif side > 1:
                layers.append(nn.MaxPool2d(2))
                side //= 2
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels * side * side, num_classes)

        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = torch.flatten(x, 1)
        return self.classifier(x)


def vgg11(num_classes: int = 10, in_channels: int = 3, image_size: int = 32) -> VGG:
    """VGG-11: eight convolutions."""
    return VGG(VGG11, num_classes, in_channels, image_size)
