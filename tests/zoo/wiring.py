"""How people wire layers: loops over lists, pyramids, encoders with decoders, sums of branches."""

from __future__ import annotations

import operator
from functools import reduce

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class Unet(nn.Module):
    """Encoder and decoder with skips; pads to the size of the skip."""

    def __init__(self, widths=(4, 8)):
        super().__init__()
        self.downs = nn.ModuleList()
        cin = 3
        for w in widths:
            self.downs.append(nn.Sequential(nn.Conv2d(cin, w, 3, padding=1), nn.BatchNorm2d(w), nn.ReLU()))
            cin = w
        self.mid = nn.Conv2d(cin, cin * 2, 3, padding=1)
        self.ups, self.joins = nn.ModuleList(), nn.ModuleList()
        for w in reversed(widths):
            self.ups.append(nn.ConvTranspose2d(w * 2, w, 2, stride=2))
            self.joins.append(nn.Conv2d(w * 2, w, 3, padding=1))
        self.out = nn.Conv2d(widths[0], 2, 1)

    def forward(self, x):
        skips = []
        for down in self.downs:
            x = down(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.mid(x)
        for up, join, skip in zip(self.ups, self.joins, skips[::-1]):
            x = up(x)
            dy, dx = skip.size(2) - x.size(2), skip.size(3) - x.size(3)
            x = F.pad(x, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])
            x = F.relu(join(torch.cat([skip, x], dim=1)))
        return self.out(x)


class Pyramid(nn.Module):
    """Pools to several sizes and puts all side by side."""

    def __init__(self, sizes=(1, 2, 4)):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.stages = nn.ModuleList([self._stage(8, 4, s) for s in sizes])
        self.out = nn.Conv2d(8 + 4 * len(sizes), 3, 1)

    def _stage(self, cin, cout, size):
        return nn.Sequential(nn.AdaptiveAvgPool2d(output_size=(size, size)), nn.Conv2d(cin, cout, 1, bias=False))

    def forward(self, x):
        x = self.stem(x)
        h, w = x.shape[2:]
        priors = [F.interpolate(s(x), size=(h, w), mode="bilinear", align_corners=True) for s in self.stages] + [x]
        return self.out(torch.cat(priors, 1))


class SumOfBranches(nn.Module):
    def __init__(self):
        super().__init__()
        self.branches = nn.ModuleList([nn.Conv2d(3, 8, k, padding=k // 2) for k in (1, 3)])
        self.more = nn.ModuleList([nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)])
        self.out = nn.Conv2d(8, 3, 1)

    def forward(self, x):
        x = sum(b(x) for b in self.branches)
        x = reduce(operator.add, [m(x) for m in self.more], x)
        return self.out(torch.add(x, self.more[-1](x), alpha=0.5))


class Sliced(nn.Module):
    """Runs parts of a Sequential."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 6))
        self.out = nn.Linear(6, 3)

    def forward(self, x):
        x = self.features[:2](x)
        for layer in list(self.features)[2:]:
            x = layer(x)
        return self.out(x)


class Collected(nn.Module):
    """Keeps what it needs by name."""

    def __init__(self, wanted=("b", "c")):
        super().__init__()
        self.wanted = wanted
        self.layers = nn.ModuleDict([["a", nn.Linear(5, 8)], ["b", nn.Linear(8, 6)], ["c", nn.Linear(6, 6)]])
        self.out = nn.Linear(12, 3)

    def forward(self, x):
        kept = {}
        for name, layer in self.layers.items():
            x = F.silu(layer(x))
            if name in self.wanted:
                kept[name] = x
        return self.out(torch.cat(list(kept.values()), dim=-1))


class Recursive(nn.Module):
    """A tree of its own class."""

    def __init__(self, depth=2, width=8):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 1)
        self.inner = Recursive(depth - 1, width) if depth > 1 else None

    def forward(self, x):
        x = self.conv(x).relu()
        return x if self.inner is None else x + self.inner(x)


class Tree(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.tree, self.out = nn.Conv2d(3, 8, 1), Recursive(), nn.Conv2d(8, 3, 1)

    def forward(self, x):
        return self.out(self.tree(self.stem(x)))


class Packed(nn.Module):
    """Sequences of several lengths."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 8, padding_idx=0)
        self.lstm = nn.LSTM(8, 6, batch_first=True)
        self.out = nn.Linear(6, 3)

    def forward(self, tokens, lengths):
        x = pack_padded_sequence(self.embed(tokens), lengths, batch_first=True, enforce_sorted=False)
        x, _ = pad_packed_sequence(self.lstm(x)[0], batch_first=True)
        return self.out(x)


class ConvLstmCell(nn.Module):
    def __init__(self, cin, hidden):
        super().__init__()
        self.hidden = hidden
        self.gates = nn.Conv2d(cin + hidden, 4 * hidden, 3, padding=1)

    def forward(self, x, state):
        h, c = state
        i, f, o, g = torch.split(self.gates(torch.cat([x, h], dim=1)), self.hidden, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c

    def start(self, n, size):
        h, w = size
        device = self.gates.weight.device
        zeros = torch.zeros(n, self.hidden, h, w, device=device, dtype=self.gates.weight.dtype)
        return zeros, zeros.clone()


class ConvLstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = ConvLstmCell(3, 6)
        self.out = nn.Conv2d(6, 2, 1)

    def forward(self, frames):
        state = self.cell.start(frames.size(0), frames.shape[-2:])
        for t in range(frames.size(1)):
            state = self.cell(frames[:, t], state)
        return self.out(state[0])


class Mixer(nn.Module):
    """Mixes tokens, then channels."""

    def __init__(self, tokens=7, dim=8):
        super().__init__()
        self.embed = nn.Linear(5, dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.mix = nn.Sequential(nn.Linear(tokens, 6), nn.GELU(), nn.Linear(6, tokens))
        self.mlp = nn.Sequential(nn.Linear(dim, dim * 2), nn.GELU(), nn.Linear(dim * 2, dim))
        self.head = nn.Linear(dim, 3)

    def forward(self, x):
        x = self.embed(x)
        x = x + self.mix(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.mlp(self.norm2(x))
        return self.head(x.mean(1))


class Detector(nn.Module):
    """One head for boxes and classes, taken apart at the end."""

    def __init__(self, anchors=2, classes=3):
        super().__init__()
        self.anchors, self.classes = anchors, classes
        self.body = nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Conv2d(8, anchors * (5 + classes), 1)

    def forward(self, x):
        y = self.head(self.body(x).relu())
        n, _, h, w = y.shape
        y = y.view(n, self.anchors, 5 + self.classes, h, w).permute(0, 1, 3, 4, 2).contiguous()
        xy, wh, rest = y.sigmoid().split((2, 2, self.classes + 1), -1)
        return torch.cat((xy * 2 - 0.5, (wh * 2) ** 2, rest), -1).view(n, -1, 5 + self.classes)


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 6))
        self.head = nn.Linear(6, 1)

    def forward(self, a, b):
        return self.head(torch.abs(self.net(a) - self.net(b))).sigmoid()


class Variational(nn.Module):
    """Draws from a normal distribution while it trains."""

    def __init__(self):
        super().__init__()
        self.enc, self.mu, self.logvar = nn.Linear(5, 8), nn.Linear(8, 4), nn.Linear(8, 4)
        self.dec1, self.dec2 = nn.Linear(4, 8), nn.Linear(8, 5)

    def forward(self, x):
        h = self.enc(x).relu()
        mu, logvar = self.mu(h), self.logvar(h)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar) if self.training else mu
        return self.dec2(self.dec1(z).relu()), mu, logvar


IMAGE, TOKENS, WORDS = torch.randn(2, 3, 8, 8), torch.randn(2, 7, 5), torch.arange(14).reshape(2, 7) % 11
CASES = {
    Unet: (IMAGE, "downs.0.0:4 downs.1.0:8 mid:16 ups.0:8 joins.0:8 ups.1:4 joins.1:4", ""),
    Pyramid: (IMAGE, "stem:8 stages.0.1:4 stages.1.1:4 stages.2.1:4", ""),
    SumOfBranches: (IMAGE, "branches.0:8", ""),
    Sliced: (TOKENS, "features.0:8 features.2:6 features.4:6", ""),
    Collected: (TOKENS, "layers.a:8 layers.b:6 layers.c:6", ""),
    Tree: (IMAGE, "stem:8 tree.conv:8", ""),
    Packed: ((WORDS, torch.tensor([7, 4])), "lstm:6", "no rule for the operation _pack_padded_sequence"),
    ConvLstm: (torch.randn(2, 3, 3, 4, 4), "cell.gates:6", ""),
    Mixer: (TOKENS, "embed:8 mix.0:6 mlp.0:16", ""),
    Detector: (IMAGE, "body:8", ""),
    Siamese: ((TOKENS, TOKENS.flip(1)), "net.0:8 net.2:6", ""),
    Variational: (TOKENS, "enc:8 dec1:8", ""),
}  # fmt: skip
