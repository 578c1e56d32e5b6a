"""Network in Network (Lin et al. 2013), with the widths of the XNOR-Net experiments on CIFAR-10.

Source:   nin()
"""

from __future__ import annotations

from torch import Tensor, nn


class MLPConv(nn.Module):
    """Dropout, convolution, batch normalisation, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.dropout(x))
        return self.relu(self.bn(x))


class NIN(nn.Module):
    """Three spatial convolutions, each followed by two of 1x1; the last one gives one map per class."""

    def __init__(self, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            MLPConv(in_channels, 76, kernel_size=5),
            MLPConv(76, 80, kernel_size=1),
            MLPConv(80, 57, kernel_size=1),
            nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
            MLPConv(57, 134, kernel_size=5, dropout=0.5),
            MLPConv(134, 76, kernel_size=1),
            MLPConv(76, 96, kernel_size=1),
            nn.AvgPool2d(kernel_size=3, stride=2, padding=1),
            MLPConv(96, 115, kernel_size=3, dropout=0.5),
            MLPConv(115, 134, kernel_size=1),
            nn.Conv2d(134, num_classes, kernel_size=1),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )

        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.normal_(m.weight, std=0.05)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def nin(num_classes: int = 10, in_channels: int = 3) -> NIN:
    """Network in Network, nine convolutions."""
    return NIN(num_classes, in_channels)
