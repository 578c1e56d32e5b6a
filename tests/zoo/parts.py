"""Networks that take channels apart and put them together."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Base(nn.Module):
    """Two convolutions; the subclasses say what happens in between."""

    def __init__(self, width=8, read=8):
        super().__init__()
        self.a = nn.Conv2d(3, width, 3, padding=1)
        self.b = nn.Conv2d(read, 4, 1)

    def between(self, x):
        return x

    def forward(self, x):
        return self.b(self.between(F.relu(self.a(x), inplace=True)))


class Cat(Base):
    def __init__(self):
        super().__init__(read=19)
        self.c = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        return self.b(torch.cat([self.a(x), x, self.c(x)], dim=1))


class Chunk(Base):
    def between(self, x):
        first, second = torch.chunk(x, 2, dim=1)
        return torch.cat((second, first), 1)


class Halves(Base):
    def between(self, x):
        half = x.shape[1] // 2
        return torch.cat((x[:, :half].sigmoid(), x[:, half:]), 1)


class HalvesLiteral(Base):
    def between(self, x):
        return torch.cat((x[:, :2].sigmoid(), x[:, 2:]), 1)


class SplitSizes(Base):
    def between(self, x):
        a, b, c = torch.split(x, [2, 2, 4], dim=1)
        return torch.cat((a * b, b, c), 1)


class SplitByLength(Base):
    def between(self, x):
        a, b = x.split(4, 1)
        return torch.cat((a, b.tanh()), 1)


class SplitAttribute(Base):
    def __init__(self):
        super().__init__()
        self.split = (3, 5)

    def between(self, x):
        a, b = x.split(self.split, dim=1)
        return torch.cat((a, b.tanh()), 1)


class TensorSplit(Base):
    def between(self, x):
        return torch.cat(torch.tensor_split(x, 4, dim=1)[::-1], 1)


class Stacked(nn.Module):
    def __init__(self):
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(3, 8, k, padding=k // 2) for k in (1, 3, 5))
        self.out = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        return self.out(torch.stack([branch(x) for branch in self.branches], dim=1).sum(1))


class Unbound(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(5, 24)
        self.out = nn.Linear(8, 4)

    def forward(self, x):
        a, b, c = self.fc(x).reshape(*x.shape[:-1], 3, 8).unbind(-2)
        return self.out(a * b.sigmoid() + c)


class PadChannels(Base):
    def __init__(self):
        super().__init__(read=12)

    def between(self, x):
        return F.pad(x, (0, 0, 0, 0, 2, 2))


class ZeroChannels(Base):
    def __init__(self):
        super().__init__(read=12)

    def between(self, x):
        n, c, h, w = x.shape
        return torch.cat([x, torch.zeros(n, 4, h, w, device=x.device, dtype=x.dtype)], 1)


class Strided(Base):
    def __init__(self):
        super().__init__(read=4)

    def between(self, x):
        return x[:, ::2]


class LastOnes(Base):
    def __init__(self):
        super().__init__(read=4)

    def between(self, x):
        return x[:, -4:]


class AllButLast(Base):
    def __init__(self):
        super().__init__(read=6)

    def between(self, x):
        return x[:, :-2]


class Ellipsis(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.out = nn.Linear(5, 12), nn.Linear(6, 3)

    def forward(self, x):
        x = self.fc(x)
        return self.out(x[..., :6] * x[..., 6:].sigmoid())


class Narrow(Base):
    def __init__(self):
        super().__init__(read=4)

    def between(self, x):
        return x.narrow(1, 0, 4) + torch.narrow(x, 1, 4, 4)


class OneChannel(Base):
    def __init__(self):
        super().__init__(read=7)

    def between(self, x):
        return x[:, 1:] * x[:, 0:1]


class GateChannel(Base):
    def between(self, x):
        return x * x[:, 0].unsqueeze(1)


class IndexSelect(Base):
    def between(self, x):
        order = torch.tensor([7, 6, 5, 4, 3, 2, 1, 0], device=x.device)
        return x.index_select(1, order)


class IndexList(Base):
    def __init__(self):
        super().__init__(read=3)

    def between(self, x):
        return x[:, [0, 2, 5]]


class Flip(Base):
    def between(self, x):
        return x.flip(1) + torch.flip(x, dims=(2, 3))


class Roll(Base):
    def between(self, x):
        return torch.roll(x, shifts=(1, 1), dims=(2, 3))


class RollChannels(Base):
    def between(self, x):
        return torch.roll(x, 2, 1)


class Repeat(Base):
    def __init__(self):
        super().__init__(width=4)

    def between(self, x):
        return x.repeat(1, 2, 1, 1)


class Tile(Base):
    def __init__(self):
        super().__init__(width=4)

    def between(self, x):
        return torch.tile(x, (1, 2, 1, 1))


class RepeatInterleave(Base):
    def __init__(self):
        super().__init__(width=4)

    def between(self, x):
        return x.repeat_interleave(2, dim=1)


class Expanded(Base):
    def __init__(self):
        super().__init__(width=1)

    def between(self, x):
        return x.expand(-1, 8, -1, -1)


class InPlaceSlice(Base):
    """A temporal shift: moves some channels one step, in place."""

    def between(self, x):
        out = torch.zeros_like(x)
        out[:, :4, 1:] = x[:, :4, :-1]
        out[:, 4:] = x[:, 4:]
        return out


class InPlaceAdd(Base):
    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        y = self.a(x)
        y += self.c(x)
        y.mul_(0.5).clamp_(min=0)
        return self.b(y)


class InPlacePart(Base):
    def between(self, x):
        y = x.clone()
        y[:, :4] += x[:, 4:]
        return y


class Dense(nn.Module):
    """Concatenates all that came before, in a loop."""

    def __init__(self, growth=4, layers=3):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 1)
        self.layers = nn.ModuleList()
        width = 6
        for _ in range(layers):
            self.layers.append(nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, growth, 3, padding=1)))
            width += growth
        self.out = nn.Conv2d(width, 4, 1)

    def forward(self, x):
        features = [self.stem(x)]
        for layer in self.layers:
            features.append(layer(torch.cat(features, 1)))
        return self.out(torch.cat(features, 1))


class Res2(nn.Module):
    """Splits a width into equal parts, each with a convolution that reads the one before."""

    def __init__(self, width=4, scale=3):
        super().__init__()
        self.width = width
        self.conv1 = nn.Conv2d(3, width * scale, 1)
        self.convs = nn.ModuleList([nn.Conv2d(width, width, 3, padding=1) for _ in range(scale - 1)])
        self.conv3 = nn.Conv2d(width * scale, 5, 1)

    def forward(self, x):
        spx = torch.split(self.conv1(x).relu(), self.width, 1)
        out = [spx[-1]]
        sp = None
        for i, conv in enumerate(self.convs):
            sp = spx[i] if sp is None else sp + spx[i]
            sp = conv(sp)
            out.append(sp)
        return self.conv3(torch.cat(out, 1))


IMAGE, TOKENS = torch.randn(2, 3, 8, 8), torch.randn(2, 7, 5)
CASES = {
    Cat: (IMAGE, "a:8 c:8", ""),
    Chunk: (IMAGE, "a:4", ""),
    Halves: (IMAGE, "a:8", ""),
    HalvesLiteral: (IMAGE, "a:8", ""),
    SplitSizes: (IMAGE, "a:2 a#2:4", ""),
    SplitByLength: (IMAGE, "a:4", ""),
    SplitAttribute: (IMAGE, "a:8", ""),
    TensorSplit: (IMAGE, "", "slice takes positions of the axis"),
    Stacked: (IMAGE, "branches.0:8", ""),
    Unbound: (TOKENS, "fc:8", ""),
    PadChannels: (IMAGE, "a:8 b:4", ""),
    ZeroChannels: (IMAGE, "a:8 b:4", ""),
    Strided: (IMAGE, "", "slice takes positions of the axis"),
    LastOnes: (IMAGE, "a:4", ""),
    AllButLast: (IMAGE, "a:6", ""),
    Ellipsis: (TOKENS, "fc:6", ""),
    Narrow: (IMAGE, "a:4", ""),
    OneChannel: (IMAGE, "", "slice takes positions of the axis"),
    GateChannel: (IMAGE, "", "select takes positions of the axis"),
    IndexSelect: (IMAGE, "", "index_select reorders the axis"),
    IndexList: (IMAGE, "", "index reorders the axis"),
    Flip: (IMAGE, "a:4", ""),
    Roll: (IMAGE, "a:8", ""),
    RollChannels: (IMAGE, "", "roll reorders the axis"),
    Repeat: (IMAGE, "a:4", ""),
    Tile: (IMAGE, "a:4", ""),
    RepeatInterleave: (IMAGE, "a:4", ""),
    Expanded: (IMAGE, "b:8", ""),
    InPlaceSlice: (IMAGE, "a:8", ""),
    InPlaceAdd: (IMAGE, "a:8", ""),
    InPlacePart: (IMAGE, "a:4", ""),
    Dense: (IMAGE, "stem:6 layers.0.2:4 layers.1.2:4 layers.2.2:4", ""),
    Res2: (IMAGE, "conv1:4 convs.1:4", ""),
}  # fmt: skip
