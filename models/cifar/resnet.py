"""Residual networks for small images (He et al. 2015, "Deep Residual Learning", section 4.2)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from secateur.pruners.decorators import basic_block, bottleneck


@basic_block(lType="basic_block", convs=["conv1", "conv2"], downsampling=["downsample"])
class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut around them."""

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        pad: tuple[int, int] = (0, 0),
        downsample: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = downsample
        self.stride = stride
        self.pad = pad  # channels of zeros before and after the strided input

    def shortcut(self, x: Tensor) -> Tensor:
        if self.downsample is not None:
            return self.downsample(x)
        if self.stride == 1:
            return x
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, *self.pad))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


@bottleneck(lType="bottleneck", convs=["conv1", "conv2", "conv3"], downsampling=["downsample"])
class Bottleneck(nn.Module):
    """1x1 down, 3x3, 1x1 up to four times the channels, and a shortcut around them."""

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        pad: tuple[int, int] = (0, 0),
        downsample: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, channels * self.expansion, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels * self.expansion)
        self.downsample = downsample
        self.stride = stride
        self.pad = pad  # channels of zeros before and after the strided input

    def shortcut(self, x: Tensor) -> Tensor:
        if self.downsample is not None:
            return self.downsample(x)
        # the first stage widens without a stride
        if self.stride == 1 and self.pad == (0, 0):
            return x
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, *self.pad))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return F.relu(out + self.shortcut(x))


BLOCKS: dict[str, type[BasicBlock] | type[Bottleneck]] = {"basic": BasicBlock, "bottleneck": Bottleneck}


def make_stage(
    block: type[BasicBlock] | type[Bottleneck], in_channels: int, channels: int, blocks: int, stride: int, shortcut: str
) -> nn.Sequential:
    """A chain of blocks; the first one changes the shape, the others keep it."""
    out_channels = channels * block.expansion
    pad = (0, 0)
    downsample = None
    if in_channels != out_channels and shortcut == "A":
        missing = out_channels - in_channels
        pad = (missing // 2, missing - missing // 2)
    elif in_channels != out_channels:
        downsample = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False),
            nn.BatchNorm2d(out_channels),
        )
    first = block(in_channels, channels, stride, pad, downsample)
    return nn.Sequential(first, *(block(out_channels, channels) for _ in range(1, blocks)))


class ResNet(nn.Module):
    """A stem and three stages of 16, 32 and 64 channels, halving the image between them.

    Args:
        depth: 6n + 2, with n blocks in each stage. A network of bottlenecks has the blocks of its basic
            namesake, so it is 9n + 2 layers deep.
        num_classes: width of the last layer.
        in_channels: channels of the image.
        block: ``"basic"``, or ``"bottleneck"`` from depth 44 on.
        shortcut: where a block changes the shape, ``"A"`` subsamples its input and pads it with channels of
            zeros (no parameters), ``"B"`` projects it with a 1x1 convolution.
    """

    def __init__(
        self, depth: int, num_classes: int = 10, in_channels: int = 3, block: str = "basic", shortcut: str = "A"
    ) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6 != 0:
            raise ValueError(f"depth must be 6n + 2 (20, 32, 44, 56, 110, ...), not {depth}")
        if block not in BLOCKS:
            raise ValueError(f"block must be 'basic' or 'bottleneck', not {block!r}")
        if block == "bottleneck" and depth < 44:
            raise ValueError(f"bottlenecks are for depth 44 and more, not {depth}")
        if shortcut not in ("A", "B"):
            raise ValueError(f"shortcut must be 'A' (zero padding) or 'B' (1x1 convolution), not {shortcut!r}")

        kind = BLOCKS[block]
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_channels, 16, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = make_stage(kind, 16, 16, blocks, 1, shortcut)
        self.layer2 = make_stage(kind, 16 * kind.expansion, 32, blocks, 2, shortcut)
        self.layer3 = make_stage(kind, 32 * kind.expansion, 64, blocks, 2, shortcut)
        self.linear = nn.Linear(64 * kind.expansion, num_classes)

        for m in self.modules():
            if isinstance(m, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(m.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        # global average over what is left of the image
        x = x.mean(dim=(2, 3))
        return self.linear(x)


def resnet20(num_classes: int = 10, in_channels: int = 3, shortcut: str = "A") -> ResNet:
    """ResNet-20: three blocks a stage."""
    return ResNet(20, num_classes, in_channels, shortcut=shortcut)


def resnet32(num_classes: int = 10, in_channels: int = 3, shortcut: str = "A") -> ResNet:
    """ResNet-32: five blocks a stage."""
    return ResNet(32, num_classes, in_channels, shortcut=shortcut)


def resnet44(num_classes: int = 10, in_channels: int = 3, block: str = "basic", shortcut: str = "A") -> ResNet:
    """ResNet-44: seven blocks a stage, basic or bottleneck."""
    return ResNet(44, num_classes, in_channels, block, shortcut)


def resnet56(num_classes: int = 10, in_channels: int = 3, block: str = "basic", shortcut: str = "A") -> ResNet:
    """ResNet-56: nine blocks a stage, basic or bottleneck."""
    return ResNet(56, num_classes, in_channels, block, shortcut)


def resnet110(num_classes: int = 10, in_channels: int = 3, block: str = "basic", shortcut: str = "A") -> ResNet:
    """ResNet-110: eighteen blocks a stage, basic or bottleneck."""
    return ResNet(110, num_classes, in_channels, block, shortcut)
