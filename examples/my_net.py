"""A network as people write them: nothing in it knows of Secateur."""

import torch
from torch import nn


class Block(nn.Module):
    """Two convolutions around which the input is added."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, inner, 3, padding=1, bias=False)
        self.expand_bn = nn.BatchNorm2d(inner)
        self.reduce = nn.Conv2d(inner, channels, 3, padding=1, bias=False)
        self.reduce_bn = nn.BatchNorm2d(channels)

    def forward(self, x):
        inner = self.expand_bn(self.expand(x)).relu()
        return (x + self.reduce_bn(self.reduce(inner))).relu()


class Net(nn.Module):
    """A stem, some blocks, and a head that reads the mean and the maximum of every channel."""

    def __init__(self, width: int = 16, depth: int = 3, classes: int = 10, colours: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(colours, width, 3, padding=1)
        self.blocks = nn.Sequential(*[Block(width, 4 * width) for _ in range(depth)])
        self.head = nn.Linear(2 * width, classes)

    def forward(self, x):
        x = self.blocks(self.stem(x).relu())
        return self.head(torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1))


def make() -> Net:
    return Net(width=16, depth=3)
