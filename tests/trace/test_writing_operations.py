"""Operations that write at places, and operations of other libraries."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from forms import pruned
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


NODES = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 16), nn.Linear(16, 12), nn.Linear(12, 3)
        self.register_buffer("node", torch.tensor([0, 0, 1, 2, 2, 3, 1]))

    def forward(self, x):
        x = self.a(x).relu()
        {}
        return self.c(x).mean(1)
"""
INDEX = "index = self.node.view(1, -1, 1)"
BY_SIZES = f"{INDEX}.expand(x.shape[0], 7, x.shape[2])"
BY_TENSOR = f"{INDEX}.expand_as(x)"
NODE_FORMS = {
    "added by number": "y = x.new_zeros(x.shape[0], 4, x.shape[2]).index_add_(1, self.node, x); x = self.b(y).relu()",
    "added at places": f"{BY_SIZES}; y = x.new_zeros(x.shape[0], 4, x.shape[2]); y.scatter_add_(1, index, x); "
    "x = self.b(y).relu()",
    "the largest at places, and read there": f"{BY_TENSOR}; y = x.new_zeros(x.shape[0], 4, x.shape[2]); "
    "y = self.b(y.scatter_reduce(1, index, x, reduce='amax')); "
    "x = y.gather(1, self.node.view(1, -1, 1).expand(2, 7, 12))",
    "one number repeated": "x = x * torch.tensor([2.0] * self.a.weight.size(0)); "
    "x = self.b(x) * torch.tensor([0.5] * self.b.out_features)",
}


@pytest.mark.parametrize("form", NODE_FORMS)
def test_channels_beside_the_places_go_in_the_written_file_too(tmp_path: Path, form: str) -> None:
    _, found, _ = pruned(tmp_path, NODES.format(NODE_FORMS[form].replace("; ", "\n        ")))
    assert found == {"a": 16, "b": 12}


def test_places_that_differ_between_channels_hold_them(tmp_path: Path) -> None:
    read = "x = x.gather(1, (torch.arange(84).view(1, 7, 12) % 7).repeat(2, 1, 1))"
    _, found, _ = pruned(tmp_path, NODES.format(f"x = self.b(x)\n        {read}"))
    assert found == {"a": 16}


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="needs torchvision")
def test_deformable_convolutions_read_and_make_channels() -> None:
    from torchvision.ops import DeformConv2d

    class Deformed(nn.Module):
        def __init__(self, groups: int, width: int = 8, offsets: int = 1) -> None:
            super().__init__()
            self.a, self.offset = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 18 * offsets, 3, padding=1)
            self.d, self.out = DeformConv2d(12, width, 3, padding=1, groups=groups), nn.Conv2d(width, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x)
            return self.out(self.d(x, self.offset(x)).relu())

    image = torch.zeros(1, 3, 8, 8)
    assert _sizes(Deformed(1), image) == _sizes(Deformed(2), image) == {"a": 12, "d": 8}
    blocks = {w.name: (w.size, w.n_blocks) for w in trace(Deformed(1, offsets=3), image).widths}
    assert blocks == {"a": (12, 3), "d": (8, 1)}
    assert _sizes(Deformed(12, 24), image) == {"a": 12}


ELEMENTS = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 16), nn.Linear(16, 12), nn.Linear(12, 3)

    def forward(self, x):
        x = F.logsigmoid(self.a(x)) + self.a(x) // 2 + torch.empty_like(self.a(x)).exponential_()
        x = torch.complex(self.b(x), x.sum(-1, True).expand(-1, -1, 12)).abs().transpose(1, 2).tril(2)
        low, high = torch.aminmax(x, dim=1, keepdim=True)
        return self.c(((x - low) / (high - low + 1)).transpose(1, 2))
"""


def test_operations_on_elements_that_torch_does_not_tag_as_such(tmp_path: Path) -> None:
    assert pruned(tmp_path, ELEMENTS)[1] == {"a": 16}


LARGEST = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 16), nn.Linear(16, 12), nn.Linear(12, 3)

    def forward(self, x):
        weight = torch.tanh(self.b.weight)
        weight = weight / (2 * torch.max(weight.abs())) + weight.median()
        return self.c(F.linear(self.a(x), weight).relu())
"""


UNREAD = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.n, self.c = nn.Linear(5, 16), nn.Linear(16, 12), nn.BatchNorm1d(12), nn.Linear(12, 3)

    def forward(self, x):
        x = F.linear(self.a(x), self.b.weight).transpose(1, 2)
        x = F.batch_norm(x, self.n.running_mean, self.n.running_var, training=self.training)
        return self.c(x.transpose(1, 2))
"""


def test_parameters_of_a_layer_that_nothing_reads_go_with_those_that_are_read(tmp_path: Path) -> None:
    assert pruned(tmp_path, UNREAD)[1] == {"a": 16, "b": 12}


def test_the_largest_of_all_weights_is_one_of_those_that_stay(tmp_path: Path) -> None:
    assert pruned(tmp_path, LARGEST)[1] == {"a": 16, "b": 12}


LOSSES = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 16), nn.Linear(5, 16), nn.Linear(16, 3)

    def forward(self, x):
        a, b = self.a(x).relu(), self.b(x)
        return self.c(a + F.mse_loss(a, b, reduction="none")), F.mse_loss(a, b) + F.huber_loss(a, b, reduction="sum")
"""


def test_a_loss_between_two_maps_runs_over_the_channels_that_stay(tmp_path: Path) -> None:
    assert pruned(tmp_path, LOSSES)[1] == {"a": 16}


BILINEAR = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 16), nn.Bilinear(16, 5, 12), nn.Linear(12, 3)

    def forward(self, x):
        return self.c(self.b(self.a(x).relu(), x).tanh())
"""


def test_a_bilinear_layer_reads_and_makes_channels(tmp_path: Path) -> None:
    _, found, text = pruned(tmp_path, BILINEAR)
    assert found == {"a": 16, "b": 12} and "nn.Bilinear(8, 5, 6)" in text
