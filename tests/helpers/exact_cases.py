"""Networks whose pruned weights can be made up for exactly."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.pruners.slicing import slice_model
from secateur.pruners.trace.trace import trace


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def settled(model: nn.Module) -> nn.Module:
    """In eval mode and float64, with batch norms that do something, and the same to every pair of channels."""
    generator = torch.Generator().manual_seed(1)
    for norm in (m for m in model.modules() if isinstance(m, nn.modules.batchnorm._NormBase)):
        for tensor, low in ((norm.weight, 0.5), (norm.bias, -0.5), (norm.running_mean, -0.5), (norm.running_var, 0.5)):
            tensor.data = torch.rand(len(tensor) // 2, generator=generator).repeat_interleave(2) + low
    return model.double().eval()


def halved(model: nn.Module, x: Tensor, only: str = "", step: int = 2) -> tuple[Any, dict[str, list[int]], nn.Module]:
    graph = trace(model, x[:2])
    kept = {w.name: list(range(0, w.size, step)) for w in graph.widths if only in w.name}
    return graph, kept, slice_model(model, graph, kept, x[:2]).model


def same(first: nn.Module, second: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        return float((first.eval()(x) - second.eval()(x)).abs().max())


class Leftovers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.signs, self.scaled, self.used = Signs(8, 2), Scaled(8, 2), nn.Linear(8, 2)
        self.one, self.other = nn.Linear(8, 2), nn.Linear(8, 2)
        self.other.weight = self.one.weight
        self.back = nn.ConvTranspose1d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        found = self.signs(x) + self.scaled(x) + F.linear(x, self.used.weight) + self.one(x) + self.other(x)
        return found + self.back(x.transpose(1, 2)).transpose(1, 2)


class Signs(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.sign(), self.bias)


class Scaled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / 2


class Residual(nn.Module):
    def __init__(self, late: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 1)
        self.block = Block(late=late)
        self.head = nn.Linear(6, 3)
        repeat(self.block.conv1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.stem(x)).mean((2, 3)))


class Tokens(nn.Module):
    """What is left of a vision transformer without its attention."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 2, stride=2)
        self.place = nn.Parameter(torch.randn(1, 9, 6) / 10)
        self.blocks = nn.Sequential(Feed(6, 2), Feed(6, 2))
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.place
        return self.head(self.blocks(x).mean(1))


def chain(*layers: nn.Module) -> nn.Sequential:
    repeat(layers[0])
    return nn.Sequential(*layers)


def grouped() -> nn.Sequential:
    """Both groups of the second convolution read pairs of equal channels."""
    return chain(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 3, groups=2, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
                 nn.Flatten(), nn.Linear(4 * 16, 2))  # fmt: skip


def repeat(layer: Any) -> None:
    """Odd output channels compute what the even ones before them do."""
    for tensor in (layer.weight, layer.bias):
        if tensor is not None:
            tensor.data[1::2] = tensor.data[::2]


class Block(nn.Module):
    """A residual block whose inner width is twice what it need be."""

    def __init__(self, width: int = 6, late: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, 2 * width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(2 * width)
        self.conv2 = nn.Conv2d(2 * width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.down = nn.Conv2d(width, width, 1)
        self.late = late

    def forward(self, x: Tensor) -> Tensor:
        if not self.late:
            x = self.down(x)
        out = self.bn2(self.conv2(torch.relu_(self.bn1(self.conv1(x)))))
        out += self.down(x) if self.late else x
        return torch.relu(out)


class Feed(nn.Module):
    def __init__(self, width: int, factor: int) -> None:
        super().__init__()
        self.norm, self.inner = nn.LayerNorm(width), nn.Linear(width, factor * width)
        self.outer = nn.Linear(factor * width, width)
        self.scale = nn.Parameter(torch.rand(width) + 0.5)
        self.drop = nn.Dropout(0.3)
        repeat(self.inner)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop(self.outer(F.gelu(self.inner(self.norm(x)))) * self.scale)


EXACT_CASES = {
    "conv, batch norm, conv": (lambda: chain(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 4, 3, padding="same", padding_mode="reflect", dilation=2)), "0"),
    "a stride, then a batch norm that takes the constant": (lambda: chain(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(4)), "0"),
    "flatten and linear": (lambda: chain(
        nn.Conv2d(3, 4, 5), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 4, 5), nn.ReLU(), nn.Linear(5, 2)), "0"),
    "a grouped convolution": (grouped, "0"),
    "a residual sum": (lambda: Residual(late=False), "block.conv1"),
    "a residual sum whose other part comes later": (lambda: Residual(late=True), "block.conv1"),
    "tokens": (Tokens, "inner"),
}  # fmt: skip
