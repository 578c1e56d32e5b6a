"""VGG-11 for small images in which every convolution may be binary."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

Layer = Callable[..., nn.Module]

# output channels of each 3x3 convolution in widths; "M" is a 2x2 max pooling of the convolution before it
LAYOUT: list[int | str] = [1, "M", 2, "M", 4, 4, "M", 8, 8, "M", 8, 8, "M"]


class BinaryVGG11(nn.Module):
    """Eight 3x3 convolutions and one linear layer; each convolution is followed by pooling, batch norm, hardtanh.

    Args:
        num_classes: width of the last layer.
        in_channels: channels of the image.
        image_size: side of the image. Poolings for which nothing is left to halve are left out.
        width: channels of the first convolution.
        conv: makes the convolutions after the first.
        first: makes the first convolution.
        last: makes the last layer; a binary one is followed by a batch norm.
        activation: makes what stands in front of every convolution but the first.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: int = 32,
        width: int = 64,
        conv: Layer = nn.Conv2d,
        first: Layer = nn.Conv2d,
        last: Layer = nn.Linear,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, side = in_channels, image_size
        for number, item in enumerate(LAYOUT):
            if not isinstance(item, int):
                continue
            if layers:
                layers.append(activation())
            make = conv if layers else first
            out_channels = width * item
            layers.append(make(channels, out_channels, kernel_size=3, padding=1))
            if LAYOUT[number + 1] == "M" and side > 1:
                layers.append(nn.MaxPool2d(2))
                side //= 2
            layers.append(nn.BatchNorm2d(out_channels))
            layers.append(nn.Hardtanh(inplace=True))
            channels = out_channels
        self.features = nn.Sequential(*layers)
        self.classifier = last(channels * side * side, num_classes)
        self.last_norm = nn.Identity() if last is nn.Linear else nn.BatchNorm1d(num_classes, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x).flatten(1)
        return self.last_norm(self.classifier(x))


def vgg11_binary(
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: int = 32,
    width: int = 64,
    conv: Layer = nn.Conv2d,
    first: Layer = nn.Conv2d,
    last: Layer = nn.Linear,
    activation: Callable[[], nn.Module] = nn.ReLU,
) -> BinaryVGG11:
    """VGG-11 with batch norm, in the form for binary layers."""
    return BinaryVGG11(num_classes, in_channels, image_size, width, conv, first, last, activation)
