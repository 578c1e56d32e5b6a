"""Ways in the code of binary layers: in autograd functions, with an argument called ``input``, into a debugger."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur import trace


class Binarize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, mode: str = "det", inplace: bool = False) -> Tensor:
        ctx.inplace = inplace
        if ctx.inplace:
            ctx.mark_dirty(input)
            output = input
        else:
            output = input.clone()
        if mode == "det":
            return output.sign()
        return output.add(torch.rand(output.size()).add(-0.5)).sign()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return grads[0], None, None


class BinaryConv(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        signs = Binarize.apply(input) if input.size(1) != 3 else input
        return F.conv2d(signs, Binarize.apply(self.weight), None, self.stride, self.padding)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.fc = BinaryConv(3, 16, 3), BinaryConv(16, 24, 3), nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(F.hardtanh(self.a(x))).mean((2, 3))
        if x.shape[0] > 64:
            import pdb

            pdb.set_trace()
        return self.fc(x)


def test_their_channels_may_go() -> None:
    graph = trace(Net(), torch.randn(2, 3, 8, 8))
    assert {w.name: w.size for w in graph.widths} == {"a": 16, "b": 24}
    assert not any(place.held for place in graph.untaken)
