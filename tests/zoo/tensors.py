"""Networks with odd tensors, inputs and outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, NamedTuple, Optional, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.image, self.vector = nn.Conv2d(3, 8, 1), nn.Linear(5, 8)
        self.out = nn.Linear(16, 3)

    def forward(self, image, vector, scale=2.0):
        a = self.image(image).mean((2, 3))
        return self.out(torch.cat([a, self.vector(vector) * scale], 1))


class Keywords(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, *, x: Tensor, mask: Optional[Tensor] = None):
        x = self.a(x)
        if mask is not None:
            x = x * mask[..., None]
        return {"logits": self.b(x), "hidden": None}


class DictInput(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, batch: Dict[str, Tensor]) -> Tuple[Tensor, List[Tensor]]:
        x = self.a(batch["x"]) * batch["mask"][..., None]
        return self.b(x), [x.mean((1, 2))]


@dataclass
class Output:
    logits: Tensor
    loss: Optional[Tensor] = None


class DataclassOutput(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x):
        return Output(self.b(self.a(x).relu()))


class Features(NamedTuple):
    logits: Tensor
    features: Tensor


class TupleOutput(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 8), nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x):
        x = self.a(x).relu()
        f = self.b(x)
        return Features(self.c(f), f)


class ListInput(nn.Module):
    """A feature pyramid over a list of maps."""

    def __init__(self):
        super().__init__()
        self.laterals = nn.ModuleList([nn.Conv2d(c, 8, 1) for c in (3, 6)])
        self.smooth, self.out = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 4, 1)

    def forward(self, maps):
        lats = [l(m) for l, m in zip(self.laterals, maps)]
        for i in range(len(lats) - 1, 0, -1):
            lats[i - 1] = lats[i - 1] + F.interpolate(lats[i], size=lats[i - 1].shape[-2:], mode="nearest")
        return [self.out(self.smooth(l)) for l in lats]


class Numpy(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 8), nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x):
        x = self.b(self.a(x).relu())
        scale = torch.from_numpy(np.abs(x.detach().numpy()).max(-1, keepdims=True))
        return self.c(x / scale)


class NumpySizes(nn.Module):
    """Numpy for sizes only."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Linear(8 * 64, 3)

    def forward(self, x):
        x = self.a(x)
        return self.b(x.view(-1, int(np.prod(x.shape[1:]))))


class Item(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.a(x)
        return self.b(x / max(1.0, float(x.abs().max())))


class Computed(nn.Module):
    """A buffer that forward computes."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 3)
        self.register_buffer("average", torch.zeros(8))
        self.register_buffer("window", torch.ones(8), persistent=False)

    def forward(self, x):
        x = self.a(x)
        if self.training:
            self.average.mul_(0.9).add_(0.1 * x.detach().mean((0, 1)))
        return self.b((x - self.average) * self.window)


class Rotary(nn.Module):
    """A table over channels, computed in the constructor."""

    def __init__(self, dim=8):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, dim), nn.Linear(dim, 6), nn.Linear(6, 3)
        freq = 1.0 / (10000 ** (torch.arange(0, dim, 2).float() / dim))
        angles = torch.arange(7).float()[:, None] * freq
        self.register_buffer("cos", torch.cat((angles, angles), -1).cos(), persistent=False)

    def forward(self, x):
        return self.c(self.b(self.a(x) * self.cos[: x.shape[1]]).relu())


class Sines(nn.Module):
    """Position codes made in forward from a width."""

    def __init__(self, dim=8):
        super().__init__()
        self.dim = dim
        self.a, self.b, self.c = nn.Linear(5, dim), nn.Linear(dim, 6), nn.Linear(6, 3)

    def forward(self, x):
        place = torch.arange(x.shape[1], device=x.device, dtype=x.dtype)[:, None]
        rate = torch.exp(torch.arange(0, self.dim, device=x.device, dtype=x.dtype) * -0.5)
        return self.c(self.b(self.a(x) + torch.sin(place * rate)).relu())


class Fourier(nn.Module):
    """Spectra over space."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 6, 1), nn.Conv2d(6, 4, 1)
        self.filter = nn.Parameter(torch.randn(8, 8, 5, 2))

    def forward(self, x):
        x = self.a(x)
        spectrum = torch.fft.rfft2(x, norm="ortho") * torch.view_as_complex(self.filter)
        return self.c(self.b(torch.fft.irfft2(spectrum, s=x.shape[-2:], norm="ortho")).relu())


class Casts(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.a(x).to(torch.float64).contiguous()
        return self.b(torch.softmax(x.double(), dim=1).to(self.b.weight.dtype))


class WeightNormed(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = weight_norm(nn.Linear(5, 8)), nn.Linear(8, 3)

    def forward(self, x):
        return self.b(self.a(x))


class SpectralNormed(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = spectral_norm(nn.Linear(5, 8)), nn.Linear(8, 3)

    def forward(self, x):
        return self.b(self.a(x))


class Parametrised(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = parametrizations.weight_norm(nn.Linear(5, 8)), nn.Linear(8, 3)

    def forward(self, x):
        return self.b(self.a(x))


class Hooked(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 3)
        self.seen = []
        self.a.register_forward_hook(lambda m, i, o: self.seen.append(o.shape))

    def forward(self, x):
        return self.b(self.a(x))


class Scripted(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = torch.jit.script(nn.Sequential(nn.Linear(5, 8), nn.ReLU()))
        self.b, self.c = nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.c(self.b(self.a(x)).relu())


@torch.jit.script
def fused(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


class ScriptFunction(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.b(fused(self.a(x)))


class SwishFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return grad * (s * (1 + x * (1 - s)))


class OwnGradient(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.b(SwishFunction.apply(self.a(x)))


class Scatter(nn.Module):
    """Messages on a graph: rows are gathered and added by index."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 8), nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x, edges):
        x = self.a(x)
        messages = self.b(x[edges[0]])
        out = torch.zeros(x.shape[0], messages.shape[1], dtype=x.dtype).index_add_(0, edges[1], messages)
        return self.c(out.relu())


class ScatterAdd(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x, edges):
        m = self.a(x)[edges[0]]
        out = torch.zeros_like(m).scatter_add_(0, edges[1][:, None].expand_as(m), m)
        return self.b(out)


class Distances(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 8), nn.Linear(8, 6), nn.Linear(7, 3)

    def forward(self, x):
        x = self.b(self.a(x).relu())
        return self.c(torch.cdist(x, x))


class Vmapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.b(torch.vmap(self.a)(x).relu())


IMAGE, TOKENS, VECTOR = torch.randn(2, 3, 8, 8), torch.randn(2, 7, 5), torch.randn(2, 5)
NODES = torch.randn(6, 5)
EDGES = torch.tensor([[0, 1, 2, 3, 4], [1, 2, 3, 4, 0]])
CASES = {
    TwoInputs: ((IMAGE, VECTOR), "image:8 vector:8", ""),
    Keywords: ({"x": TOKENS, "mask": torch.ones(2, 7)}, "a:8", ""),
    DictInput: (({"x": TOKENS, "mask": torch.ones(2, 7)},), "a:8", ""),
    DataclassOutput: (TOKENS, "a:8", ""),
    TupleOutput: (TOKENS, "a:8", ""),
    ListInput: (([IMAGE, torch.randn(2, 6, 4, 4)],), "laterals.0:8 smooth:8", ""),
    Numpy: (TOKENS, "a:8", "numpy takes it out of torch"),
    NumpySizes: (IMAGE, "a:8", ""),
    Item: (TOKENS, "", "a plain number made of the data scales channels"),
    Computed: (TOKENS, "a:8", ""),
    Rotary: (TOKENS, "a:8 b:6", "mul joins it with a tensor whose channels are unknown"),
    Sines: (TOKENS, "b:6", "add joins it with a tensor whose channels are unknown"),
    Fourier: (IMAGE, "a:8 b:6", "real and imaginary parts"),
    Casts: (TOKENS, "a:8", ""),
    WeightNormed: (TOKENS, "a:8", ""),
    SpectralNormed: (TOKENS, "a:8", ""),
    Parametrised: (TOKENS, "a:8", ""),
    Hooked: (TOKENS, "", "a (Linear) has a forward hook, which the generated source would lose"),
    Scripted: (TOKENS, "", "is a script module, which has no Python source"),
    ScriptFunction: (TOKENS, "a:8", ""),
    OwnGradient: (TOKENS, "a:8", ""),
    Scatter: ((NODES, EDGES), "a:8 b:6", ""),
    ScatterAdd: ((NODES, EDGES), "a:8", ""),
    Distances: (TOKENS, "a:8", "no rule for the operation _cdist_forward"),
    Vmapped: (TOKENS, "a:8", ""),
}  # fmt: skip
