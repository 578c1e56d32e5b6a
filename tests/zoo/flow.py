"""Networks whose way depends on something."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Flag(nn.Module):
    def __init__(self, residual=True):
        super().__init__()
        self.residual = residual
        self.a, self.b, self.c = nn.Linear(5, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.a(x)
        y = self.b(x).relu()
        return self.c(x + y if self.residual else y)


class BranchThatFlips(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        x = self.a(x)
        if x.shape[1] > 4:
            x = x.relu()
        else:
            x = x.tanh()
        return self.b(x)


class BranchThatFlipsCounted(nn.Module):
    """The branch that is taken after pruning reshapes, the other doesn't."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        x = self.a(x)
        if x.shape[1] > 4:
            x = x.view(x.shape[0], -1, 64).view(x.shape[0], -1, 8, 8)
        return self.b(x)


class Asserts(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.width = width
        self.a, self.b = nn.Conv2d(3, width, 1), nn.Conv2d(width, 4, 1)

    def forward(self, x):
        assert x.ndim == 4 and x.shape[1] == 3, "images"
        x = self.a(x)
        assert x.shape[1] == self.a.out_channels
        return self.b(x)


class AssertsStale(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.width = width
        self.a, self.b = nn.Conv2d(3, width, 1), nn.Conv2d(width, 4, 1)

    def forward(self, x):
        x = self.a(x)
        assert x.shape[1] == self.width, "unexpected width"
        return self.b(x)


class RaisesStale(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.dim = width
        self.a, self.b = nn.Linear(5, width), nn.Linear(width, 4)

    def forward(self, x):
        x = self.a(x)
        if x.size(-1) != self.dim:
            raise ValueError("wrong width")
        return self.b(x)


class Tries(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 4)

    def forward(self, x):
        x = self.a(x)
        try:
            x = x.view(x.shape[0], -1, 8)
        except RuntimeError:
            x = x.relu()
        return self.b(x)


class ByData(nn.Module):
    """Two ways; the example takes one of them."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = nn.Linear(5, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.a(x).relu()
        if x.sum() >= 0:
            x = self.b(x)
        else:
            x = self.c(x)
        return self.d(x)


class EarlyExit(nn.Module):
    def __init__(self, threshold=2.0):
        super().__init__()
        self.threshold = threshold
        self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 8)
        self.exit1, self.exit2 = nn.Linear(8, 3), nn.Linear(8, 3)

    def forward(self, x):
        x = self.a(x).relu()
        early = self.exit1(x)
        if not self.training and early.softmax(-1).max() > self.threshold:
            return early
        return self.exit2(self.b(x).relu())


class StochasticDepth(nn.Module):
    def __init__(self, p=0.2):
        super().__init__()
        self.p = p
        self.stem, self.out = nn.Linear(5, 8), nn.Linear(8, 3)
        self.blocks = nn.ModuleList([nn.Linear(8, 8) for _ in range(2)])

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            if self.training and torch.rand(1).item() < self.p:
                continue
            y = block(x)
            if self.training:
                mask = torch.rand(x.shape[0], 1, 1, device=x.device, dtype=x.dtype).add_(1 - self.p).floor_()
                y = y.div(1 - self.p) * mask
            x = x + y
        return self.out(x)


class Loops(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.a(x)
        steps = 0
        while steps < 3 and x.norm() > 1e-9:
            x = torch.tanh(self.b(x))
            steps += 1
        return self.c(x)


class NeverUsed(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 3)
        self.unused = nn.Linear(8, 8)
        self.spare = nn.Parameter(torch.zeros(8))

    def forward(self, x):
        return self.b(self.a(x).relu())


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 8), nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x):
        x = self.a(x)
        x = torch.where(x > 0, x, torch.full_like(x, 0.1))
        y = self.b(x.masked_fill(x < -1, 0.0))
        y[y < 0] = 0.0
        return self.c(y)


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.a(x)
        x = torch.utils.checkpoint.checkpoint(self.inner, x, use_reentrant=False)
        return self.c(x)

    def inner(self, x):
        return self.b(x).relu()


class NoGrad(nn.Module):
    def __init__(self):
        super().__init__()
        self.teacher, self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        with torch.no_grad():
            t = self.teacher(x).detach()
        return self.b(self.a(t).relu() + t)


class Autocast(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x):
        with torch.autocast("cpu", enabled=False):
            return self.b(self.a(x).float().to(x.dtype).relu()).type_as(x)


class Printing(nn.Module):
    def __init__(self, verbose=False):
        super().__init__()
        self.verbose = verbose
        self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x):
        if self.verbose:
            print(x.shape)
        for name, module in self.named_children():
            x = module(x)
            if name == "a":
                x = x.relu()
        return x


TOKENS, IMAGE = torch.randn(2, 7, 5), torch.randn(2, 3, 8, 8)
CASES = {
    Flag: (TOKENS, "a:8", ""),
    BranchThatFlips: (IMAGE, "", "a condition turns out otherwise with fewer channels (tanh of line"),
    BranchThatFlipsCounted: (IMAGE, "", "the pruned network takes another way here"),
    Asserts: (IMAGE, "a:8", ""),
    AssertsStale: (IMAGE, "a:8", ""),
    RaisesStale: (TOKENS, "a:8", ""),
    Tries: (TOKENS, "a:8", ""),
    ByData: (TOKENS, "a:8 b:8", ""),
    EarlyExit: (TOKENS, "a:8 b:8", "_softmax runs along the channels"),
    StochasticDepth: (TOKENS, "stem:8", ""),
    Loops: (TOKENS, "a:8", ""),
    NeverUsed: (TOKENS, "a:8", "not reached by the example input"),
    Masked: (TOKENS, "a:8 b:6", ""),
    Checkpointed: (TOKENS, "a:8 b:8", ""),
    NoGrad: (TOKENS, "teacher:8", ""),
    Autocast: (TOKENS, "a:8", ""),
    Printing: (TOKENS, "a:8", ""),
}  # fmt: skip
