"""Layers that get their sizes on the first call: found on the example, and written as the plain ones they become."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from secateur import prune
from secateur.pruners.errors import TraceError

X = torch.zeros(2, 3, 8, 8)


class Lazy(nn.Module):
    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.stem = nn.LazyConv2d(8, 3)  # the stem
        self.norm = nn.LazyBatchNorm2d()
        self.head = nn.LazyLinear(classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.stem(x)).relu().mean((2, 3)))


def test_an_example_that_they_can_not_take_is_refused() -> None:
    with pytest.raises(TraceError, match=r"the network can't be run on the example input: RuntimeError: .*Kernel"):
        prune(Lazy(), torch.zeros(2, 3, 1, 1), ratio=0.5)


@pytest.mark.parametrize("ran", [False, True], ids=["that never ran", "that ran before"])
def test_a_lazy_network_is_written_with_plain_layers(ran: bool) -> None:
    network = Lazy()
    if ran:
        network(X)
    bundle = prune(network, X, ratio=0.5)
    assert "self.stem = nn.Conv2d(3, 4, kernel_size=3)  # the stem" in bundle.source
    assert "self.head = nn.Linear(4, classes)" in bundle.source and "nn.Lazy" not in bundle.source
    assert bundle.model(X).shape == (2, 5) and bundle.summary["verified"]
