"""VGG with batch normalisation, for small images (Simonyan & Zisserman 2014).

Source:   vgg11()
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class VGG(nn.Module):
    """A chain of 3x3 convolutions and one linear layer.

    Args:
        num_classes: width of the last layer.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 25, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(25),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(25, 64, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(64, 153, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(153),
            nn.ReLU(inplace=True),
            nn.Conv2d(153, 179, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(179),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(179, 204, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(204),
            nn.ReLU(inplace=True),
            nn.Conv2d(204, 256, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(256),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(256, 307, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(307),
            nn.ReLU(inplace=True),
            nn.Conv2d(307, 358, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(358),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Linear(358, num_classes)

        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = torch.flatten(x, 1)
        return self.classifier(x)


def vgg11(num_classes: int = 10) -> VGG:
    """VGG-11: eight convolutions."""
    return VGG(num_classes)
