"""Binary layers as people write them: weights in one line, scales made of lists, counts taken of a part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur import prune, trace
from secateur.pruners.base import BasicPruning
from secateur.pruners.search.scatter import scatter, zero_removed

X = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))


class Column(nn.Module):
    def __init__(self, cin: int, cout: int, shape: tuple[int, ...] = (-1, 1)) -> None:
        super().__init__()
        self.shape = (cout, cin, 3, 3)
        self.column = nn.Parameter((torch.rand(cout * cin * 9) - 0.5).view(shape))

    def weights(self) -> Tensor:
        return self.column.view(self.shape).sign()

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weights(), padding=1)


class Flat(Column):
    def __init__(self, cin: int, cout: int) -> None:
        super().__init__(cin, cout, (-1,))


class SignsFirst(Flat):
    def weights(self) -> Tensor:
        return (2 * torch.sign(self.column)).reshape(self.shape)


class Scaled(Column):
    def weights(self) -> Tensor:
        filters = self.column.view(self.shape)
        scale = self.column.view(self.shape[0], -1).abs().mean(1)
        return filters.sign() * scale.view(-1, 1, 1, 1)


class PowersOfTwo(nn.Conv2d):
    def __init__(self, cin: int, cout: int) -> None:
        super().__init__(cin, cout, 3, padding=1, bias=False)

    def twos(self, n: int) -> Tensor:
        return torch.tensor([2] * n).float()

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        power = w.abs().view(w.size(0), -1).mean(-1).log2().round()
        scale = torch.pow(self.twos(w.size(0)), power).view(w.size(0), 1, 1, 1).detach()
        return F.conv2d(x, w.sign() * scale, self.bias, self.stride, self.padding)


class Listed(PowersOfTwo):
    def twos(self, n: int) -> Tensor:
        return torch.tensor([2.0 for _ in range(n)])


class SizeOfOne(PowersOfTwo):
    def forward(self, x: Tensor) -> Tensor:
        n = self.weight.data[0].nelement()
        scale = self.weight.norm(1, (1, 2, 3), keepdim=True).div(n)
        return F.conv2d(x, self.weight.sign() * scale, self.bias, self.stride, self.padding)


class ReadAsItLies(Column):
    def weights(self) -> Tensor:
        return self.column.view(self.shape).sign() * self.column.abs().mean()


class WrittenOut(PowersOfTwo):
    def twos(self, n: int) -> Tensor:
        return torch.tensor([2.0, 2.0, 2.0, 2.0, 2.0, 2.0])


class OneFilter(PowersOfTwo):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.weight[0].abs().mean()


class Net(nn.Module):
    def __init__(self, layer: Any = Column) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.a, self.norm = layer(4, 6), nn.BatchNorm2d(6)
        self.b, self.head = layer(6, 6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.a(self.stem(x).sign()))
        return self.head(self.b(x.sign()).mean((2, 3)))


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (ReadAsItLies, "a.column is viewed as filters, and here read as it lies"),
        (WrittenOut, "a tensor whose channels are unknown"),
        (OneFilter, "select takes positions of the axis"),
    ],
)
def test_filters_stay_where_the_code_reads_them_otherwise_and_the_place_is_named(layer: Any, reason: str) -> None:
    graph = trace(Net(layer), X)
    assert not any("a" in w.producers for w in graph.widths)
    assert any(reason in f.reason and f.site.file == __file__ for f in graph.frozen)


@pytest.mark.parametrize("layer", [Column, Flat, SignsFirst, Scaled, PowersOfTwo, Listed, SizeOfOne])
def test_weights_made_in_forward_are_pruned_and_compute_what_dropped_channels_leave(layer: Any) -> None:
    torch.manual_seed(1)
    model = Net(layer).eval()
    pruner = BasicPruning(model, X)
    kept = {"stem": np.array([0, 2, 3]), "a": np.array([1, 2, 5]), "b": np.array([0, 4])}
    assert {w.name for w in pruner.graph.widths} == set(kept)
    sliced = pruner.slice(kept)
    state = sliced.model.state_dict()
    name = "column" if isinstance(model.a, Column) else "weight"
    for layer_name, rows, columns in (("a", "a", "stem"), ("b", "b", "a")):
        whole = model.state_dict()[f"{layer_name}.{name}"].view(6, -1, 3, 3)
        part = whole[kept[rows]][:, kept[columns]]
        torch.testing.assert_close(state[f"{layer_name}.{name}"].view(part.shape), part)
        assert state[f"{layer_name}.{name}"].ndim == model.state_dict()[f"{layer_name}.{name}"].ndim
    if sliced.runs:
        assert sliced.model(X).shape == (2, 5)
        sliced.model.train()(X).sum().backward()


def test_a_column_goes_back_to_the_places_that_it_came_from() -> None:
    model = Net(Column).eval()
    pruner = BasicPruning(model, X)
    kept = {"stem": np.array([0, 2, 3]), "a": np.array([1, 2, 5]), "b": np.array([0, 4])}
    small = {k: torch.full_like(v, 7.0) for k, v in pruner.slice(kept).model.state_dict().items()}
    back = scatter(model.state_dict(), small, pruner.graph, kept)["a.column"].view(6, 4, 3, 3)
    inside = torch.zeros(6, 4, 3, 3, dtype=torch.bool)
    inside[np.ix_(kept["a"], kept["stem"])] = True
    assert bool((back[inside] == 7).all())
    torch.testing.assert_close(back[~inside], model.a.column.detach().view(6, 4, 3, 3)[~inside])
    zeroed = zero_removed(model.state_dict(), pruner.graph, kept)["a.column"].view(6, 4, 3, 3)
    assert bool((zeroed[~inside] == 0).all()) and bool((zeroed[inside] != 0).all())


def test_a_network_with_columns_is_written_and_proved(tmp_path: Path) -> None:
    torch.manual_seed(2)
    bundle = prune(Net(), X, ratio=0.5, output=tmp_path / "out")
    assert bundle.model.a.column.shape == (3 * 2 * 9, 1)
    text = (bundle.path / "model.py").read_text()
    assert "self.column.view(self.shape)" in text
