"""Networks with layers that few use."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(5, 12)
        self.lstm = nn.LSTM(12, 8, num_layers=2, batch_first=True, bidirectional=True, proj_size=6)
        self.mid, self.out = nn.Linear(12, 6), nn.Linear(6, 3)

    def forward(self, x):
        x, (h, c) = self.lstm(self.a(x))
        return self.out(self.mid(x).relu())


class Gru(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 12)
        self.gru = nn.GRU(12, 8, batch_first=True)
        self.mid, self.out = nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, tokens):
        x, h = self.gru(self.embed(tokens))
        return self.out(self.mid(h[-1]).relu())


class Rnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(5, 12, 3)
        self.rnn = nn.RNN(12, 8, nonlinearity="relu")
        self.mid, self.out = nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x):
        x = self.conv(x.transpose(1, 2)).permute(2, 0, 1)
        x, _ = self.rnn(x)
        return self.out(self.mid(x[-1]).relu())


class Cells(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(5, 12)
        self.cell = nn.LSTMCell(12, 8)
        self.mid, self.out = nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x):
        h = c = x.new_zeros(x.shape[0], 8)
        for step in x.unbind(1):
            h, c = self.cell(self.a(step), (h, c))
        return self.out(self.mid(h).relu())


class GruByHand(nn.Module):
    """A recurrent cell written with linear layers."""

    def __init__(self, hidden=8):
        super().__init__()
        self.hidden = hidden
        self.input, self.state = nn.Linear(5, hidden), nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, 3)

    def forward(self, x):
        h = torch.zeros(x.size(0), self.hidden, device=x.device, dtype=x.dtype)
        for t in range(x.size(1)):
            h = torch.tanh(self.input(x[:, t]) + self.state(h))
        return self.out(h)


class TransposedConvs(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.ConvTranspose2d(3, 8, 2, stride=2)
        self.b = nn.ConvTranspose2d(8, 8, 3, groups=8)
        self.c = nn.ConvTranspose2d(8, 4, 3, stride=2, output_padding=1)

    def forward(self, x):
        return self.c(self.b(self.a(x).relu()), output_size=(38, 38))


class BilinearLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 8), nn.Linear(5, 6)
        self.mix, self.out = nn.Bilinear(8, 6, 10), nn.Linear(10, 3)

    def forward(self, x):
        return self.out(self.mix(self.a(x), self.b(x)).relu())


class Embedded(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(11, 8, padding_idx=0)
        self.places = nn.Embedding(7, 8)
        self.register_buffer("ids", torch.arange(7), persistent=False)
        self.out = nn.Linear(8, 3)

    def forward(self, tokens):
        return self.out(self.words(tokens) + self.places(self.ids[: tokens.shape[1]]))


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.bag = nn.EmbeddingBag(11, 8, mode="mean")
        self.mid, self.out = nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, tokens):
        return self.out(self.mid(self.bag(tokens)).relu())


class OneDimensional(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(5, 8, 3, padding="same"), nn.BatchNorm1d(8), nn.PReLU(8), nn.MaxPool1d(2), nn.Dropout1d(0.1),
            nn.Conv1d(8, 8, 3, groups=8), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 3),
        )

    def forward(self, x):
        return self.net(x.transpose(1, 2))


class ThreeDimensional(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(1, 8, 2)
        self.norm = nn.BatchNorm3d(8)
        self.pool = nn.AdaptiveMaxPool3d((1, 2, 2))
        self.fc = nn.Linear(32, 3)

    def forward(self, x):
        x = F.dropout3d(self.norm(self.conv(x.unsqueeze(1))), 0.1, self.training)
        return self.fc(torch.flatten(self.pool(x), 1))


class Activations(nn.Module):
    """One parameter per channel in an activation, and one for all."""

    def __init__(self):
        super().__init__()
        self.a, self.act = nn.Conv2d(3, 8, 1), nn.PReLU(8)
        self.b, self.single = nn.Conv2d(8, 6, 1), nn.PReLU()
        self.c = nn.Conv2d(6, 4, 1)

    def forward(self, x):
        x = F.hardswish(self.single(self.b(self.act(self.a(x)))))
        return self.c(F.mish(F.softplus(F.selu(F.elu(x)))))


class Gumbel(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 8), nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x):
        x = self.b(self.a(x).relu())
        return self.c(x * F.softmin(x, -1))


class GroupNorms(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.n1 = nn.Conv2d(3, 8, 1), nn.GroupNorm(4, 8)
        self.b, self.n2 = nn.Conv2d(8, 8, 1), nn.GroupNorm(1, 8)
        self.c, self.n3 = nn.Conv2d(8, 8, 1), nn.GroupNorm(8, 8)
        self.d = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        return self.d(self.n3(self.c(self.n2(self.b(self.n1(self.a(x)))))))


class InstanceNorms(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.n1 = nn.Conv2d(3, 8, 1), nn.InstanceNorm2d(8)
        self.b, self.n2 = nn.Conv2d(8, 8, 1), nn.InstanceNorm2d(8, affine=True, track_running_stats=True)
        self.c, self.n3 = nn.Conv2d(8, 8, 1), nn.InstanceNorm2d(8, affine=True)
        self.d = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        return self.d(self.n3(self.c(self.n2(self.b(self.n1(self.a(x)))))))


class LayerNorms(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.n1 = nn.Linear(5, 8), nn.LayerNorm(8)
        self.b, self.n2 = nn.Linear(8, 8), nn.RMSNorm(8)
        self.c, self.n3 = nn.Linear(8, 8), nn.LayerNorm(8, elementwise_affine=False)
        self.d = nn.Linear(8, 3)

    def forward(self, x):
        x = self.n3(self.c(self.n2(self.b(self.n1(self.a(x))))))
        return self.d(F.layer_norm(x, x.shape[-1:]))


class ImageLayerNorm(nn.Module):
    """A layer norm over channels and space, and one for channels first written by hand."""

    def __init__(self):
        super().__init__()
        self.a, self.n1 = nn.Conv2d(3, 8, 1), nn.LayerNorm([8, 8, 8])
        self.b = nn.Conv2d(8, 6, 1)
        self.weight, self.bias = nn.Parameter(torch.ones(6)), nn.Parameter(torch.zeros(6))
        self.c = nn.Conv2d(6, 4, 1)

    def forward(self, x):
        x = self.b(self.n1(self.a(x)))
        u = x.mean(1, keepdim=True)
        s = (x - u).pow(2).mean(1, keepdim=True)
        x = (x - u) / torch.sqrt(s + 1e-6)
        return self.c(self.weight[:, None, None] * x + self.bias[:, None, None])


class RmsByHand(nn.Module):
    def __init__(self, dim=8):
        super().__init__()
        self.a, self.scale, self.b = nn.Linear(5, dim), nn.Parameter(torch.ones(dim)), nn.Linear(dim, 3)

    def forward(self, x):
        x = self.a(x)
        return self.b(x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.scale)


class FunctionalConv(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 3, 3, 3) * 0.1)
        self.bias = nn.Parameter(torch.zeros(8))
        self.depth = nn.Parameter(torch.randn(8, 1, 3, 3))
        self.w2 = nn.Parameter(torch.randn(8, 6))
        self.w3, self.b3 = nn.Parameter(torch.randn(3, 6)), nn.Parameter(torch.zeros(3))

    def forward(self, x):
        x = F.conv2d(x, self.weight, self.bias, padding=1).relu_()
        x = F.conv2d(x, self.depth, stride=2, groups=8).mean((2, 3))
        return F.linear(torch.matmul(x, self.w2).relu(), self.w3, self.b3)


class FunctionalBatchNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)
        self.bn = nn.BatchNorm2d(8)
        self.out = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        x = F.batch_norm(self.conv(x), self.bn.running_mean, self.bn.running_var, self.bn.weight, self.bn.bias, self.training)
        return self.out(x)


class WeightStandardised(nn.Conv2d):
    def forward(self, x):
        w = self.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / (w.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, w, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Standardised(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = WeightStandardised(3, 8, 3, padding=1), WeightStandardised(8, 6, 3), nn.Conv2d(6, 4, 1)

    def forward(self, x):
        return self.c(self.b(self.a(x).relu()).relu())


class ScaledConv(nn.Conv2d):
    """A weight times a gain per filter."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.gain = nn.Parameter(torch.ones(self.out_channels, 1, 1, 1))

    def forward(self, x):
        return self._conv_forward(x, self.weight * self.gain, self.bias)


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = ScaledConv(3, 8, 3, padding=1), ScaledConv(8, 6, 3), nn.Conv2d(6, 4, 1)

    def forward(self, x):
        return self.c(self.b(self.a(x).relu()).relu())


class Experts(nn.Module):
    """Weights of a convolution mixed by the input, as in CondConv."""

    def __init__(self):
        super().__init__()
        self.a, self.route = nn.Conv2d(3, 8, 1), nn.Linear(3, 4)
        self.experts = nn.Parameter(torch.randn(4, 6, 8))
        self.c = nn.Linear(6, 3)

    def forward(self, x):
        mix = self.route(x.mean((2, 3))).softmax(-1)
        weight = torch.einsum("be,eoi->boi", mix, self.experts)
        return self.c(torch.bmm(weight, self.a(x).mean((2, 3))[..., None]).squeeze(-1))


IMAGE, TOKENS, WORDS = torch.randn(2, 3, 8, 8), torch.randn(2, 7, 5), torch.arange(14).reshape(2, 7) % 11
CASES = {
    Lstm: (TOKENS, "a:12 lstm:8 lstm#2:6 mid:6", ""),
    Gru: (WORDS, "embed:12 gru:8 mid:6", ""),
    Rnn: (TOKENS, "conv:12 rnn:8 mid:6", ""),
    Cells: (TOKENS, "a:12 cell:8 mid:6", ""),
    GruByHand: (TOKENS, "input:8", ""),
    TransposedConvs: (IMAGE, "a:8", ""),
    BilinearLayer: (TOKENS, "a:8 b:6 mix:10", ""),
    Embedded: (WORDS, "words:8", ""),
    Bag: (WORDS, "bag:8 mid:6", "embedding_bag looks rows up by number"),
    OneDimensional: (TOKENS, "net.0:8", ""),
    ThreeDimensional: (torch.randn(2, 4, 6, 6), "conv:8", ""),
    Activations: (IMAGE, "a:8 b:6", ""),
    Gumbel: (TOKENS, "a:8", "_softmax runs along the channels"),
    GroupNorms: (IMAGE, "a:8 b:8 c:8", ""),
    InstanceNorms: (IMAGE, "a:8 b:8 c:8", ""),
    LayerNorms: (TOKENS, "a:8 b:8 c:8", ""),
    ImageLayerNorm: (IMAGE, "b:6", "a layer norm over several axes"),
    RmsByHand: (TOKENS, "a:8", ""),
    FunctionalConv: (IMAGE, "weight:8 w2:6", ""),
    FunctionalBatchNorm: (IMAGE, "conv:8", ""),
    Standardised: (IMAGE, "a:8 b:6", ""),
    Scaled: (IMAGE, "a:8 b:6", ""),
    Experts: (IMAGE, "experts:6", "_softmax runs along the channels"),
}  # fmt: skip
