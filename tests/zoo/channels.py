"""Networks that compute over channels, or with them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class SpatialAttention(nn.Module):
    """Mean and maximum over the channels, as in CBAM."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.attend = nn.Conv2d(2, 1, 3, padding=1)
        self.b = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        x = self.a(x)
        pooled = torch.cat([x.mean(1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        return self.b(x * self.attend(pooled).sigmoid())


class MeanOverChannels(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 6, 1), nn.Conv2d(6, 4, 1)

    def forward(self, x):
        x = self.a(x)
        x = self.b(x / (x.std(1, keepdim=True) + 1e-3))
        return self.c(x).mean((2, 3)) + x.sum(1).mean((1, 2))[:, None]


class Normalised(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Linear(8, 4)

    def forward(self, x):
        return self.b(F.normalize(self.a(x).mean((2, 3)), dim=1))


class SqueezeExcite(nn.Module):
    def __init__(self, channels, reduction=2):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(nn.Linear(channels, channels // reduction), nn.ReLU(), nn.Linear(channels // reduction, channels), nn.Sigmoid())

    def forward(self, x):
        b, c, _, _ = x.size()
        y = self.fc(self.pool(x).view(b, c)).view(b, c, 1, 1)
        return x * y.expand_as(x)


class Excited(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.se, self.b = nn.Conv2d(3, 8, 3), SqueezeExcite(8), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        return self.b(self.se(self.a(x)))


class EfficientChannelAttention(nn.Module):
    """A convolution that slides over the channels."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 1)
        self.slide = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x):
        x = self.b(self.a(x).relu())
        y = self.slide(x.mean((2, 3)).unsqueeze(1)).squeeze(1)
        return self.c(x * y.sigmoid()[..., None, None])


class ChannelSoftmax(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 6, 1), nn.Conv2d(6, 4, 1)
        self.soft = nn.Softmax2d()

    def forward(self, x):
        return self.c(self.b(self.a(x).relu()) * self.soft(self.b(self.a(x))))


class LocalResponse(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.norm, self.b, self.c = nn.Conv2d(3, 8, 1), nn.LocalResponseNorm(3), nn.Conv2d(8, 6, 1), nn.Conv2d(6, 4, 1)

    def forward(self, x):
        return self.c(self.b(self.norm(self.a(x))).relu())


class GlobalResponse(nn.Module):
    """Norms over space divided by their mean over the channels."""

    def __init__(self, dim=8):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, dim, 1), nn.Conv2d(dim, 4, 1)
        self.gamma = nn.Parameter(torch.ones(1, dim, 1, 1))

    def forward(self, x):
        x = self.a(x)
        gx = torch.norm(x, p=2, dim=(2, 3), keepdim=True)
        return self.b(self.gamma * (x * (gx / (gx.mean(1, keepdim=True) + 1e-6))) + x)


class GatedUnits(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.glu, self.b = nn.Conv2d(3, 16, 1), nn.GLU(dim=1), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        return self.b(self.glu(self.a(x)))


class GatedFunction(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 16), nn.Linear(8, 4)

    def forward(self, x):
        return self.b(F.glu(self.a(x), -1))


class Maxout(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 16), nn.Linear(8, 4)

    def forward(self, x):
        x = self.a(x)
        return self.b(x.view(*x.shape[:2], 8, 2).max(-1)[0])


class MaxFeatureMap(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 16, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        first, second = torch.split(self.a(x), 8, 1)
        return self.b(torch.max(first, second))


class SelectiveKernel(nn.Module):
    """Two branches weighed against each other by a softmax over the branches."""

    def __init__(self, c=8):
        super().__init__()
        self.branches = nn.ModuleList([nn.Conv2d(3, c, k, padding=k // 2) for k in (3, 5)])
        self.squeeze, self.excite = nn.Linear(c, 4), nn.Linear(4, 2 * c)
        self.out = nn.Conv2d(c, 4, 1)

    def forward(self, x):
        feats = torch.stack([b(x) for b in self.branches], 1)
        weights = self.excite(self.squeeze(feats.sum(1).mean((2, 3))).relu())
        weights = weights.view(x.shape[0], 2, -1, 1, 1).softmax(1)
        return self.out((feats * weights).sum(1))


class Gram(nn.Module):
    """A style network: products of channels with each other."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 6, 1)
        self.fc = nn.Linear(36, 3)

    def forward(self, x):
        f = self.b(self.a(x).relu()).flatten(2)
        return self.fc((f @ f.transpose(1, 2) / f.shape[-1]).flatten(1))


class BilinearPooling(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.fc = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 6, 1), nn.Linear(48, 3)

    def forward(self, x):
        a, b = self.a(x).mean((2, 3)), self.b(x).mean((2, 3))
        return self.fc(torch.einsum("bi,bj->bij", a, b).flatten(1))


class PoolOverChannels(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(4, 4, 1)
        self.pool = nn.AvgPool3d((2, 1, 1))

    def forward(self, x):
        return self.c(self.pool(self.b(self.a(x).relu()).unsqueeze(1)).squeeze(1))


class Resized(nn.Module):
    """Interpolation to the size of another tensor."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(3, 8, 1)
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.c = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        a, b = self.a(x), self.b(x)
        a = F.interpolate(a, size=b.shape[-2:], mode="nearest")
        return self.c(self.up(a + b))


class Unpooled(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 1)
        self.pool, self.unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)

    def forward(self, x):
        x, where = self.pool(self.a(x))
        return self.c(self.unpool(self.b(x), where))


class GridSampled(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.where, self.b = nn.Conv2d(3, 8, 1), nn.Linear(3, 6), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        theta = self.where(x.mean((2, 3))).view(-1, 2, 3)
        grid = F.affine_grid(theta, x.size(), align_corners=False)
        return self.b(F.grid_sample(self.a(x), grid, align_corners=False))


class Cosine(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.out = nn.Linear(5, 8), nn.Linear(8, 6), nn.Linear(1, 3)

    def forward(self, x):
        a = self.b(self.a(x).relu())
        return self.out(F.cosine_similarity(a[:, :1], a[:, 1:], dim=-1)[..., None])


class TopK(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 8), nn.Linear(8, 6), nn.Linear(2, 3)

    def forward(self, x):
        return self.c(self.b(self.a(x)).topk(2, dim=-1).values)


class FromArithmetic(nn.Module):
    """Divides by the square root of a width."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 4)

    def forward(self, x):
        x = self.a(x)
        return self.b(x / x.shape[-1] ** 0.5)


class SumOverWidth(nn.Module):
    """A mean written as a sum over channels divided by their number."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 8), nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x):
        x = self.b(self.a(x).relu())
        return self.c(x - x.sum(-1, keepdim=True) / x.shape[-1])


IMAGE, TOKENS = torch.randn(2, 3, 8, 8), torch.randn(2, 7, 5)
CASES = {
    SpatialAttention: (IMAGE, "a:8", ""),
    MeanOverChannels: (IMAGE, "a:8 b:6", ""),
    Normalised: (IMAGE, "a:8", ""),
    Excited: (IMAGE, "a:8 se.fc.0:4", ""),
    EfficientChannelAttention: (IMAGE, "a:8", "a convolution slides over the axis"),
    ChannelSoftmax: (IMAGE, "a:8", "_softmax runs along the channels"),
    LocalResponse: (IMAGE, "b:6", "avg_pool3d runs over the channels"),
    GlobalResponse: (IMAGE, "a:8", ""),
    GatedUnits: (IMAGE, "a:8", ""),
    GatedFunction: (TOKENS, "a:8", ""),
    Maxout: (TOKENS, "a:8", ""),
    MaxFeatureMap: (IMAGE, "a:8", ""),
    SelectiveKernel: (IMAGE, "branches.0:8 squeeze:4", ""),
    Gram: (IMAGE, "a:8", "view merges two axes of channels"),
    BilinearPooling: (IMAGE, "a:8", "view merges two axes of channels"),
    PoolOverChannels: (IMAGE, "a:8", "avg_pool3d runs over the channels"),
    Resized: (IMAGE, "a:8", ""),
    Unpooled: (IMAGE, "a:8", ""),
    GridSampled: (IMAGE, "a:8", "affine_grid takes angles and scales from it"),
    Cosine: (TOKENS, "a:8", ""),
    TopK: (TOKENS, "a:8", "topk runs along the channels"),
    FromArithmetic: (TOKENS, "a:8", ""),
    SumOverWidth: (TOKENS, "a:8 b:6", ""),
}  # fmt: skip
