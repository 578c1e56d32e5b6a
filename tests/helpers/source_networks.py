"""Small networks with the habits that real code has, for the source writer's tests."""
# Copyright of nobody. This comment is not at the top, so it is not carried over.

from __future__ import annotations

import enum
import functools
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.1
LIMITS = (-SLOPE, 1 + SLOPE)


class Mode(enum.Enum):
    ADD = 1
    KEEP = 2


@dataclass(frozen=True)
class Options:
    scale: float = 1.0
    mode: Mode = Mode.ADD


def clip(x: Tensor) -> Tensor:
    """Limits that stand at the top of the file."""
    return x.clamp(*LIMITS)


def conv3x3(in_planes: int, out_planes: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_planes, out_planes, 3, stride, 1, bias=False)


class Unit(nn.Module):
    """A block whose middle is optional.

    Args:
        inp: channels in.
        oup: channels out.
        expand: how much wider the middle is.
    """

    def __init__(self, inp: int, oup: int, stride: int = 1, expand: int = 2) -> None:
        super().__init__()
        hidden = inp * expand
        layers: list[nn.Module] = []
        if expand != 1:
            # widen
            layers.append(conv3x3(inp, hidden))  # to the middle
            layers.append(nn.BatchNorm2d(hidden))
        layers.extend([
            # narrow
            conv3x3(hidden, oup, stride),
            nn.BatchNorm2d(oup),  # no activation
        ])
        self.body = nn.Sequential(*layers)
        if stride != 1 or inp != oup:
            self.short = nn.Sequential(nn.Conv2d(inp, oup, 1, stride, bias=False), nn.BatchNorm2d(oup))
        else:
            self.short = nn.Identity()
        self.use_clip = stride == 1 and inp == oup

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x) + self.short(x)
        return clip(y) if self.use_clip else y


class Units(nn.Module):
    """Uses ``Unit`` in loops, and helpers for its weights."""

    def __init__(self, widths: tuple[int, ...] = (8, 12, 12), num_classes: int = 5, dropout: float = 0.1) -> None:
        super().__init__()
        self.in_planes = widths[0]
        self.stem = conv3x3(3, self.in_planes)
        # the stages
        self.stage1 = self._make_stage(widths[1], 2, 2)
        self.stage2 = self._make_stage(widths[2], 1, 1, expand=1)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(self.in_planes, num_classes)
        self._initialise()

    def _make_stage(self, planes: int, blocks: int, stride: int, expand: int = 2) -> nn.Sequential:
        made = []
        for i in range(blocks):
            made.append(Unit(self.in_planes, planes, stride if i == 0 else 1, expand))
            self.in_planes = planes
        return nn.Sequential(*made)

    def _initialise(self) -> None:
        for m in self.modules():
            if isinstance(m, nn.Linear):
                nn.init.normal_(m.weight, std=1 / math.sqrt(m.in_features))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage2(self.stage1(self.stem(x)))
        return self.head(self.drop(x.mean((2, 3))))


def units(num_classes: int = 5, dropout: float = 0.1) -> Units:
    """Two stages.

    Args:
        num_classes: width of the last layer.
    """
    return Units(num_classes=num_classes, dropout=dropout)


class Base(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def scaled(self, x: Tensor) -> Tensor:
        return self.conv(x) * 0.5

    def forward(self, x: Tensor) -> Tensor:
        return self.scaled(x)


class Derived(Base):
    """Adds a norm to its parent and uses the parent's method."""

    def __init__(self, width: int, groups: int = 2) -> None:
        super().__init__(width)
        self.norm = nn.GroupNorm(groups, width)

    def scaled(self, x: Tensor) -> Tensor:
        return self.norm(super().scaled(x))


class ChannelNorm(nn.LayerNorm):
    """A torch layer with another axis order."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class Odd(nn.Module):
    """Parameters, buffers, config objects, lambdas, partials, enums, named children."""

    def __init__(self, width: int = 6, options: Options = Options(0.5)) -> None:
        super().__init__()
        self.options = options
        self.act = lambda x: F.leaky_relu(x, SLOPE)
        self.pool = functools.partial(F.avg_pool2d, kernel_size=2)
        self.scale = nn.Parameter(torch.full((1, width, 1, 1), 0.25))
        self.register_buffer("offset", torch.arange(width).float().view(1, -1, 1, 1), persistent=False)
        self.register_buffer("seen", torch.zeros(1, dtype=torch.long))
        self.steps = nn.ModuleDict({"first": Derived(width), "second": Base(width)})
        self.tail = nn.Sequential(OrderedDict([("norm", ChannelNorm(width)), ("conv", nn.Conv2d(width, width, 1))]))
        self.stem = nn.Conv2d(3, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.stem(x)) * self.scale + self.offset
        for step in self.steps.values():
            x = step(x)
        x = self.pool(self.tail(x))
        return x * self.options.scale if self.options.mode is Mode.ADD else x


def odd(width: int = 6) -> Odd:
    return Odd(width)


class Tied(nn.Module):
    """An embedding that is also the output layer, and a block used twice."""

    def __init__(self, vocabulary: int = 11, dim: int = 6) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, dim)
        self.block = nn.Linear(dim, dim)
        self.again = self.block
        self.out = nn.Linear(dim, vocabulary, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.again(self.block(self.embed(x))))


class Flat(nn.Module):
    """Counts its features in forward."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1)
        self.fc = nn.Linear(width * 64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.fc(x.view(-1, 4 * 8 * 8))


class Part(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.conv(x)[:, :4], x[:, 4:]], 1)


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = Part(8)
        self.second = Part(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


class Pairs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pairs = nn.Sequential(Parts(), Parts())

    def forward(self, x: Tensor) -> Tensor:
        return self.pairs(x)


def pairs() -> Pairs:
    return Pairs()


class Gate(nn.Module):
    """Makes the same activation in two places, and uses a class under another name."""

    def __init__(self, hidden: int, activation_layer: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, hidden, 1), activation_layer(), nn.Conv2d(hidden, 3, 1))
        self.before = activation_layer()
        self.after = activation_layer()
        self.part = Piece(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.part(self.after(self.body(self.before(x)) + x))


class Gates(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(Gate(4, nn.Tanh), Gate(6, nn.Hardswish))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


Piece = Part
