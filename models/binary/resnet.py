"""Residual networks in the forms that binary layers want: of IR-Net (Qin et al. 2020), and one of 14 wide layers."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from secateur.pruners.decorators import basic_block

Layer = Callable[..., nn.Module]


class BinaryBlock(nn.Module):
    """Two 3x3 convolutions, each with a shortcut of its own around it and its batch norm (Bi-Real, Liu et al. 2018).

    Where the block changes the shape, the first shortcut subsamples its input and pads it with channels of zeros.
    """

    def __init__(
        self, in_channels: int, channels: int, conv: Layer, norm: Layer, stride: int = 1, pad: tuple[int, int] = (0, 0)
    ) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, channels, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = norm(channels)
        self.conv2 = conv(channels, channels, kernel_size=3, stride=1, padding=1, bias=False)
        self.bn2 = norm(channels)
        self.stride = stride
        self.pad = pad  # channels of zeros before and after the strided input

    def shortcut(self, x: Tensor) -> Tensor:
        if self.stride == 1:
            return x
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, *self.pad))

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardtanh(self.bn1(self.conv1(x)) + self.shortcut(x))
        return F.hardtanh(self.bn2(self.conv2(x)) + x)


class BinaryResNet(nn.Module):
    """ResNet-20 of IR-Net: a stem and three stages of 16, 32 and 64 channels, halving the image between them.

    Args:
        num_classes: width of the last layer.
        in_channels: channels of the image.
        blocks: blocks in each stage; 6 ``blocks`` + 2 layers.
        conv: makes the convolutions of the blocks; a binary one takes the sign of its input, which lies in [-1, 1].
        first: makes the convolution of the stem.
        last: makes the last layer; a binary one is followed by a batch norm.
        norm: makes the norms behind the convolutions.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        blocks: int = 3,
        conv: Layer = nn.Conv2d,
        first: Layer = nn.Conv2d,
        last: Layer = nn.Linear,
        norm: Layer = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        self.conv1 = first(in_channels, 16, kernel_size=3, padding=1, bias=False)
        self.bn1 = norm(16)
        self.layer1 = make_binary_stage(16, 16, blocks, 1, conv, norm)
        self.layer2 = make_binary_stage(16, 32, blocks, 2, conv, norm)
        self.layer3 = make_binary_stage(32, 64, blocks, 2, conv, norm)
        self.bn2 = nn.BatchNorm1d(64)
        self.linear = last(64, num_classes)
        self.last_norm = nn.Identity() if last is nn.Linear else nn.BatchNorm1d(num_classes)

        for m in self.modules():
            if isinstance(m, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(m.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardtanh(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        # global average over what is left of the image
        x = self.bn2(x.mean(dim=(2, 3)))
        return self.last_norm(self.linear(x))


def make_binary_stage(
    in_channels: int, channels: int, blocks: int, stride: int, conv: Layer, norm: Layer
) -> nn.Sequential:
    """A chain of blocks; the first one changes the shape, the others keep it."""
    missing = channels - in_channels
    first = BinaryBlock(in_channels, channels, conv, norm, stride, (missing // 2, missing - missing // 2))
    return nn.Sequential(first, *(BinaryBlock(channels, channels, conv, norm) for _ in range(1, blocks)))


def resnet20_binary(
    num_classes: int = 10,
    in_channels: int = 3,
    blocks: int = 3,
    conv: Layer = nn.Conv2d,
    first: Layer = nn.Conv2d,
    last: Layer = nn.Linear,
    norm: Layer = nn.BatchNorm2d,
) -> BinaryResNet:
    """ResNet-20 with a shortcut around each convolution."""
    return BinaryResNet(num_classes, in_channels, blocks, conv, first, last, norm)


@basic_block(lType="binary_basic_block", convs=["conv1", "conv2"], downsampling=["shortcut"])
class BinaryBasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut around both; where the shape changes it is a real 1x1 convolution."""

    def __init__(self, in_channels: int, channels: int, conv: Layer, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, channels, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv(channels, channels, kernel_size=3, stride=1, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, kernel_size=1, stride=stride, bias=False),
                nn.BatchNorm2d(channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        out = F.hardtanh(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.hardtanh(out + self.shortcut(x))


class BinaryResNet18(nn.Module):
    """ResNet-18 of IR-Net for small images: a 3x3 stem and four stages of two blocks.

    Args:
        num_classes: width of the last layer.
        in_channels: channels of the image.
        width: channels of the first stage; they double from stage to stage.
        conv: makes the 3x3 convolutions of the blocks.
        first: makes the convolution of the stem.
        last: makes the last layer; a binary one is followed by a batch norm.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        width: int = 64,
        conv: Layer = nn.Conv2d,
        first: Layer = nn.Conv2d,
        last: Layer = nn.Linear,
    ) -> None:
        super().__init__()
        self.conv1 = first(in_channels, width, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        stages = []
        channels = width
        for number in range(4):
            out_channels = width * 2**number
            stride = 1 if number == 0 else 2
            stages.append(
                nn.Sequential(
                    BinaryBasicBlock(channels, out_channels, conv, stride),
                    BinaryBasicBlock(out_channels, out_channels, conv),
                )
            )
            channels = out_channels
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.bn2 = nn.BatchNorm1d(channels)
        self.linear = last(channels, num_classes)
        self.last_norm = nn.Identity() if last is nn.Linear else nn.BatchNorm1d(num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardtanh(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        # global average over what is left of the image
        x = self.bn2(x.mean(dim=(2, 3)))
        return self.last_norm(self.linear(x))


def resnet18_binary(
    num_classes: int = 10,
    in_channels: int = 3,
    width: int = 64,
    conv: Layer = nn.Conv2d,
    first: Layer = nn.Conv2d,
    last: Layer = nn.Linear,
) -> BinaryResNet18:
    """ResNet-18 with a stem for small images, in the form for binary layers."""
    return BinaryResNet18(num_classes, in_channels, width, conv, first, last)


@basic_block(lType="prelu_block", convs=["conv1", "conv2"], downsampling=["downsample"])
class PReLUBlock(nn.Module):
    """Two 3x3 convolutions, each followed by the same PReLU and a batch norm, and a shortcut around them.

    There is no activation after the sum: ``activation`` stands in front of every convolution, and a binary
    convolution takes the sign of its input itself.
    """

    def __init__(
        self, in_channels: int, channels: int, conv: Layer, activation: Callable[[], nn.Module], stride: int = 1
    ) -> None:
        super().__init__()
        self.activation = activation()
        self.conv1 = conv(in_channels, channels, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv(channels, channels, kernel_size=3, stride=1, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.prelu = nn.PReLU()
        self.downsample = nn.Sequential()
        if in_channels != channels:
            self.downsample = nn.Sequential(
                activation(),
                conv(in_channels, channels, kernel_size=1, stride=stride, bias=False),
                nn.BatchNorm2d(channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn1(self.prelu(self.conv1(self.activation(x))))
        out = self.bn2(self.prelu(self.conv2(self.activation(out))))
        return out + self.downsample(x)


class BinaryResNet14(nn.Module):
    """A ResNet of 14 layers, a quarter wider than usual, in which every convolution of a block may be binary.

    Args:
        num_classes: width of the last layer.
        in_channels: channels of the image.
        width: channels of the first stage; they double from stage to stage.
        conv: makes the convolutions of the blocks and of their shortcuts.
        first: makes the convolution of the stem.
        last: makes the last layer; a binary one is followed by a batch norm.
        activation: makes what stands in front of the blocks' convolutions.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        width: int = 80,
        conv: Layer = nn.Conv2d,
        first: Layer = nn.Conv2d,
        last: Layer = nn.Linear,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        self.conv1 = first(in_channels, width, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = make_prelu_stage(width, width, 1, conv, activation)
        self.layer2 = make_prelu_stage(width, 2 * width, 2, conv, activation)
        self.layer3 = make_prelu_stage(2 * width, 4 * width, 2, conv, activation)
        self.fc = last(4 * width, num_classes)
        self.last_norm = nn.Identity() if last is nn.Linear else nn.BatchNorm1d(num_classes)

        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(F.relu(self.conv1(x)))
        x = F.relu(self.layer3(self.layer2(self.layer1(x))))
        # global average over what is left of the image
        x = x.mean(dim=(2, 3))
        return self.last_norm(self.fc(x))


def make_prelu_stage(
    in_channels: int, channels: int, stride: int, conv: Layer, activation: Callable[[], nn.Module]
) -> nn.Sequential:
    """Two blocks; the first one changes the shape."""
    return nn.Sequential(
        PReLUBlock(in_channels, channels, conv, activation, stride),
        PReLUBlock(channels, channels, conv, activation),
    )


def resnet14_binary(
    num_classes: int = 10,
    in_channels: int = 3,
    width: int = 80,
    conv: Layer = nn.Conv2d,
    first: Layer = nn.Conv2d,
    last: Layer = nn.Linear,
    activation: Callable[[], nn.Module] = nn.ReLU,
) -> BinaryResNet14:
    """ResNet of 14 layers and widths 80, 160, 320, in the form for binary layers."""
    return BinaryResNet14(num_classes, in_channels, width, conv, first, last, activation)
