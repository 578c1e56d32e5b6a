"""Networks that change shapes by hand."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class ViewLiteral(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Linear(8 * 8 * 8, 4)

    def forward(self, x):
        x = F.relu(self.conv(x))
        x = x.view(-1, 8 * 8 * 8)
        return self.head(x)


class ViewOfSizes(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.head = nn.Linear(8 * 6 * 6, 4)

    def forward(self, x):
        x = self.conv(x).relu()
        n, c, h, w = x.size()
        return self.head(x.view(n, c * h * w))


class ViewAttribute(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.width = width
        self.conv = nn.Conv2d(3, width, 3, stride=2)
        self.head = nn.Linear(width, 4)

    def forward(self, x):
        x = self.conv(x).relu()
        return self.head(x.reshape(x.shape[0], self.width, -1).amax(2))


class Unflattened(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(10, 8 * 4 * 4)
        self.conv = nn.Conv2d(8, 4, 3)

    def forward(self, x):
        x = self.fc(x).relu().unflatten(1, (8, 4, 4))
        return self.conv(x)


class UnflattenLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(10, 128), nn.ReLU(), nn.Unflatten(1, (8, 4, 4)), nn.Conv2d(8, 6, 3), nn.Flatten(), nn.Linear(24, 3)
        )

    def forward(self, x):
        return self.net(x)


class Generator(nn.Module):
    """From a vector to an image, with a literal view."""

    def __init__(self, z=10, ngf=8):
        super().__init__()
        self.l1 = nn.Linear(z, ngf * 2 * 16)
        self.bn = nn.BatchNorm2d(ngf * 2)
        self.up = nn.ConvTranspose2d(ngf * 2, ngf, 4, 2, 1, bias=False)
        self.out = nn.Conv2d(ngf, 3, 3, padding=1)

    def forward(self, z):
        x = self.bn(self.l1(z).view(z.shape[0], 16, 4, 4))
        return torch.tanh(self.out(F.leaky_relu(self.up(x), 0.2)))


class ChannelsLast(nn.Module):
    """Permutes to (N, H, W, C) for a norm and a linear layer, and back."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.LayerNorm(8)
        self.fc = nn.Linear(8, 12)
        self.out = nn.Conv2d(12, 4, 1)

    def forward(self, x):
        x = self.conv(x).permute(0, 2, 3, 1)
        x = F.gelu(self.fc(self.norm(x)))
        return self.out(x.permute(0, 3, 1, 2).contiguous())


class Movedim(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        x = torch.movedim(self.conv(x), 1, -1)
        x = x.flatten(1, 2).swapaxes(1, 2).transpose(-1, -2)
        return self.fc(x).moveaxis(-1, 1)


class Tokens(nn.Module):
    """Flattens space and transposes, as vision transformers do."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, stride=4)
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.place = nn.Parameter(torch.zeros(1, 5, 8))
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(x.shape[0], -1, -1), x), dim=1) + self.place
        return self.head(x.relu()).amax(1)


class Einsum(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(5, 8)
        self.mix = nn.Parameter(torch.randn(8, 6))
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        x = torch.einsum("bnc,cd->bnd", self.fc(x).relu(), self.mix)
        return self.head(x.relu())


class EinsumHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(5, 8)
        self.weight = nn.Parameter(torch.randn(4, 2, 3))
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        x = self.fc(x).view(x.shape[0], -1, 4, 2)
        return self.head(torch.einsum("bnhc,hcd->bnhd", x, self.weight).flatten(2))


class SpaceToDepth(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3, padding=1)
        self.down = nn.PixelUnshuffle(2)
        self.b = nn.Conv2d(16, 6, 1)

    def forward(self, x):
        return self.b(self.down(self.a(x).relu())).mean((2, 3))


class DepthToSpace(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 16, 3, padding=1)
        self.b = nn.Conv2d(4, 6, 1)

    def forward(self, x):
        return self.b(F.pixel_shuffle(self.a(x).relu(), 2)).mean((2, 3))


class ShuffleByHand(nn.Module):
    """Pixel shuffle written with views."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 16, 3, padding=1)
        self.b = nn.Conv2d(4, 6, 1)

    def forward(self, x):
        x = self.a(x)
        n, c, h, w = x.shape
        x = x.view(n, c // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3).reshape(n, c // 4, h * 2, w * 2)
        return self.b(x)


class ChannelShuffle(nn.Module):
    def __init__(self, groups=2):
        super().__init__()
        self.groups = groups
        self.a = nn.Conv2d(3, 8, 1)
        self.b = nn.Conv2d(8, 8, 1, groups=groups)
        self.c = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        x = self.b(self.a(x))
        n, c, h, w = x.shape
        x = x.view(n, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.c(x)


class ChannelShuffleLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ChannelShuffle(2), nn.Conv2d(8, 8, 1, groups=2), nn.Conv2d(8, 4, 1))

    def forward(self, x):
        return self.net(x)


class Unfolded(nn.Module):
    """im2col and a matrix product instead of a convolution."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 1)
        self.fc = nn.Linear(6 * 9, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = F.unfold(self.conv(x), 3, padding=1).transpose(1, 2)
        return self.head(self.fc(x).relu())


class Windows(nn.Module):
    """Cuts an image into windows and puts it together again."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)
        self.fc = nn.Linear(8, 8)
        self.out = nn.Conv2d(8, 3, 1)

    def forward(self, x):
        x = self.conv(x).permute(0, 2, 3, 1)
        B, H, W, C = x.shape
        x = x.view(B, H // 4, 4, W // 4, 4, C).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, C)
        x = self.fc(x)
        x = x.view(B, H // 4, W // 4, 4, 4, C).permute(0, 1, 3, 2, 4, 5).reshape(B, H, W, C)
        return self.out(x.permute(0, 3, 1, 2))


class SqueezedAxes(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 8)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        x = self.conv(x).squeeze(-1).squeeze(2)
        return self.fc(x.unsqueeze(1)).squeeze(1)


class ViewAs(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Linear(3, 8)
        self.c = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        a = self.a(x)
        scale = self.b(x.mean((2, 3)))[:, :, None, None].expand_as(a)
        return self.c(a * scale.reshape_as(a))


IMAGE, VECTOR, TOKENS = torch.randn(2, 3, 8, 8), torch.randn(2, 10), torch.randn(2, 7, 5)
CASES = {
    ViewLiteral: (IMAGE, "conv:8", ""),
    ViewOfSizes: (IMAGE, "conv:8", ""),
    ViewAttribute: (IMAGE, "conv:8", ""),
    Unflattened: (VECTOR, "fc:8", ""),
    UnflattenLayer: (VECTOR, "net.0:8 net.3:6", ""),
    Generator: (VECTOR, "l1:16 up:8", ""),
    ChannelsLast: (IMAGE, "conv:8 fc:12", ""),
    Movedim: (IMAGE, "conv:8", ""),
    Tokens: (IMAGE, "patch:8", "add joins it with a tensor whose channels are unknown"),
    Einsum: (TOKENS, "fc:8 mix:6", ""),
    EinsumHeads: (TOKENS, "fc:2 weight:3", "bmm over a batch of channels"),
    SpaceToDepth: (IMAGE, "a:4", ""),
    DepthToSpace: (IMAGE, "a:4", ""),
    ShuffleByHand: (IMAGE, "a:4", ""),
    ChannelShuffle: (IMAGE, "a:8 b:4", ""),
    ChannelShuffleLayer: (IMAGE, "net.0:4 net.2:8", ""),
    Unfolded: (IMAGE, "conv:6 fc:8", ""),
    Windows: (IMAGE, "conv:8 fc:8", ""),
    SqueezedAxes: (IMAGE, "conv:8", ""),
    ViewAs: (IMAGE, "a:8", ""),
}  # fmt: skip
