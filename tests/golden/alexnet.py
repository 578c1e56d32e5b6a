"""AlexNet for small images (Krizhevsky et al. 2012).

Source:   alexnet()
"""

from __future__ import annotations

import math

from torch import Tensor, nn


class AlexNet(nn.Module):
    """Five convolutions and three linear layers, one after the other.

    The paper's 11x11 stem with stride 4 is 5x5 with stride 2 here (stride 1 below 16x16), and its hidden layers of
    4096 features have 1024.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 3, image_size: int = 32) -> None:
        super().__init__()
        stride = 2 if image_size >= 16 else 1
        side = math.ceil(image_size / stride) // 8  # three poolings follow
        if side == 0:
            raise ValueError(f"AlexNet halves the image three times: image_size must be 8 or more, not {image_size}")
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 25, kernel_size=5, stride=stride, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(25, 96, kernel_size=5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(96, 230, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(230, 179, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(179, 102, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(102 * side * side, 512),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(512, 614),
            nn.ReLU(inplace=True),
            nn.Linear(614, num_classes),
        )

        # without batch norm, torch's own initialisation lets the signal fade out
        for m in self.modules():
            if isinstance(m, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(m.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


def alexnet(num_classes: int = 10, in_channels: int = 3, image_size: int = 32) -> AlexNet:
    """AlexNet with a stem for small images."""
    return AlexNet(num_classes, in_channels, image_size)
