"""Network in Network as in the XNOR-Net experiments on CIFAR-10."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

Layer = Callable[..., nn.Module]


class BinaryMLPConv(nn.Module):
    """Batch normalisation, convolution (a binary one takes the sign first), ReLU, dropout.

    Dropout comes last: in front of a sign it would drop nothing, as the sign of 0 is 1.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, conv: Layer, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(in_channels, eps=1e-4)
        self.conv = conv(in_channels, out_channels, kernel_size=kernel_size, padding=kernel_size // 2)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv(self.bn(x)))
        return self.dropout(x)


class BinaryNIN(nn.Module):
    """Three spatial convolutions, each followed by two of 1x1; the last one gives one map per class."""

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        conv: Layer = nn.Conv2d,
        first: Layer = nn.Conv2d,
        last_conv: Layer = nn.Conv2d,
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            first(in_channels, 192, kernel_size=5, padding=2),
            nn.BatchNorm2d(192, eps=1e-4, affine=False),
            nn.ReLU(inplace=True),
            BinaryMLPConv(192, 160, 1, conv),
            BinaryMLPConv(160, 96, 1, conv),
            nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
            BinaryMLPConv(96, 192, 5, conv, dropout=0.5),
            BinaryMLPConv(192, 192, 1, conv),
            BinaryMLPConv(192, 192, 1, conv),
            nn.AvgPool2d(kernel_size=3, stride=2, padding=1),
            BinaryMLPConv(192, 192, 3, conv, dropout=0.5),
            BinaryMLPConv(192, 192, 1, conv),
            nn.BatchNorm2d(192, eps=1e-4, affine=False),
            last_conv(192, num_classes, kernel_size=1),
        )
        self.last_norm = nn.Identity() if last_conv is nn.Conv2d else nn.BatchNorm2d(num_classes)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AdaptiveAvgPool2d(1)

        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.normal_(m.weight, std=0.05)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.last_norm(self.layers(x)))
        return self.pool(x).flatten(1)


def nin_binary(
    num_classes: int = 10,
    in_channels: int = 3,
    conv: Layer = nn.Conv2d,
    first: Layer = nn.Conv2d,
    last_conv: Layer = nn.Conv2d,
) -> BinaryNIN:
    """Network in Network, nine convolutions, in the form for binary layers."""
    return BinaryNIN(num_classes, in_channels, conv, first, last_conv)
