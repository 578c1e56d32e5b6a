"""Operations that write at places, and operations of other libraries."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch import Tensor, nn

from secateur import trace


class Writing(nn.Module):
    """Lays frames over each other along an axis without channels, or along that of the channels."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.a, self.b = nn.Conv1d(1, 12, 3), nn.Conv1d(12, 8, 1)
        self.out = nn.Conv1d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.b(self.a(x).relu())
        places = torch.arange(y.shape[2]) // 2
        short = y.new_zeros(y.shape[0], y.shape[1], y.shape[2] // 2 + 1)
        if self.how == "index_add":
            y = short.index_add(2, places, y)
        elif self.how == "scatter_add":
            y = short.scatter_add(2, places.expand(y.shape), y)
        elif self.how == "index_copy":
            y = short.index_copy_(2, places[::2], y[:, :, ::2])
        elif self.how == "masked_scatter":
            y = y.masked_scatter(y > 0, y)
        elif self.how == "over channels":
            y = torch.zeros_like(y).index_add(1, torch.arange(8).flip(0), y)
        return self.out(y)


def _sizes(model: nn.Module, inputs: Tensor) -> dict[str, int]:
    return {w.name: w.size for w in trace(model, inputs).widths}


@pytest.mark.parametrize("how", ["masked_scatter", "over channels"])
def test_channels_that_are_written_one_by_one_stay(how: str) -> None:
    assert _sizes(Writing(how), torch.zeros(1, 1, 18)) == {"a": 12}


@pytest.mark.parametrize("how", ["index_add", "index_copy"])
def test_channels_beside_the_places_can_go(how: str) -> None:
    assert _sizes(Writing(how), torch.zeros(1, 1, 18)) == {"a": 12, "b": 8}


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="needs torchvision")
def test_deformable_convolutions_read_and_make_channels() -> None:
    from torchvision.ops import DeformConv2d

    class Deformed(nn.Module):
        def __init__(self, groups: int) -> None:
            super().__init__()
            self.a, self.offset = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 18, 3, padding=1)
            self.d, self.out = DeformConv2d(12, 8, 3, padding=1, groups=groups), nn.Conv2d(8, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x)
            return self.out(self.d(x, self.offset(x)).relu())

    assert _sizes(Deformed(2), torch.zeros(1, 3, 8, 8)) == {}
    assert _sizes(Deformed(1), torch.zeros(1, 3, 8, 8)) == {"a": 12, "d": 8}
