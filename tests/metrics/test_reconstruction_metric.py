"""The metric ``reconstruction``: what goes first is what the weights of others can best make up for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secateur.pruners.errors import UsageError
from secateur.pruners.least_squares import Elimination, Independent, eliminate, elimination
from secateur.pruners.metrics import rank
from secateur.pruners.metrics import reconstruction as metric
from secateur.pruners.trace.trace import trace

X = torch.randn(64, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def ranked(model: nn.Module, batches: Any = None) -> Any:
    model.eval()
    return rank(model, trace(model, X[:1]), "reconstruction", [(X, None)] if batches is None else batches)


def system(inputs: int = 6, outputs: int = 3, kernel: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(inputs)
    x = torch.randn(200, inputs * kernel, generator=generator, dtype=torch.float64)
    x[:, 1:] += x[:, :-1]
    weight = torch.randn(outputs, inputs * kernel, generator=generator, dtype=torch.float64)
    return x, weight, torch.arange(inputs * kernel).view(inputs, kernel)


@pytest.mark.parametrize("batches", [None, []], ids=["none", "an empty list"])
def test_images_are_needed(batches: Any) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1))
    with pytest.raises(UsageError, match="metric reconstruction needs images; give --data or take l1"):
        rank(model, trace(model, X[:1]), "reconstruction", batches)


@pytest.mark.parametrize("kernel", [1, 2])
def test_every_price_is_what_least_squares_leaves(kernel: int) -> None:
    x, weight, places = system(kernel=kernel)
    elimination = Elimination(x.mT @ x, weight, places, torch.arange(len(places)), ridge=0.0)
    y = x @ weight.mT
    kept = list(range(len(places)))
    lost = 0.0
    while len(kept) > 1:
        prices = dict(zip(elimination.members.tolist(), elimination.prices().tolist(), strict=True))
        part = elimination.part(torch.tensor(kept[:2]))
        assert part.prices().tolist() == pytest.approx([prices[g] for g in kept[:2]])
        assert sorted(prices) == kept
        for group in kept:
            rest = [p for g in kept if g != group for p in places[g].tolist()]
            best = x[:, rest] @ torch.linalg.lstsq(x[:, rest], y).solution
            assert float((y - best).square().sum() / y.square().sum()) == pytest.approx(lost + prices[group])
        gone = min(kept, key=lambda g: prices[g])
        lost += prices[gone]
        elimination.remove(torch.tensor([gone]))
        kept.remove(gone)


def test_groups_go_from_the_blocks_in_turn_and_scores_add_up() -> None:
    x, weight, places = system()
    elimination = Elimination(x.mT @ x, weight, places, torch.arange(6), ridge=0.0)
    block_of = torch.tensor([0, 0, 0, 1, 1, 1])
    scores = eliminate([elimination], block_of)
    order = scores.argsort()
    assert all({int(block_of[a]), int(block_of[b])} == {0, 1} for a, b in order.view(3, 2))
    assert float(scores.max()) == pytest.approx(1.0)
    alone = Independent(torch.ones(6).double(), weight, places, torch.arange(6))
    assert float(alone.prices().sum()) == pytest.approx(1.0)


def test_of_large_systems_several_groups_go_at_a_time_but_never_both_of_a_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(400, 64, generator=generator, dtype=torch.float64)
    x[:, 1::2] = x[:, ::2] + 1e-3 * x[:, 1::2]  # pairs that say the same
    weight = torch.randn(5, 64, generator=generator, dtype=torch.float64)
    places = torch.arange(64)[:, None]

    def scores() -> torch.Tensor:
        found = Elimination(x.mT @ x, weight, places, torch.arange(64), ridge=1e-6)
        return eliminate([found], torch.zeros(64, dtype=torch.long))

    one_by_one = scores()
    monkeypatch.setattr(elimination, "_LARGE", 32)
    several = scores()
    for found in (one_by_one, several):
        first = found.argsort()[:32]
        assert sorted(g // 2 for g in first.tolist()) == list(range(32))
    assert float(several.max()) == pytest.approx(float(one_by_one.max()), rel=1e-4) == pytest.approx(1.0, rel=1e-4)
    assert torch.allclose(several.sort().values[32:], one_by_one.sort().values[32:], rtol=0.3)


def test_channels_that_others_can_stand_for_go_first_at_no_price() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3, groups=2), nn.ReLU(), nn.Flatten(),
                          nn.Linear(16, 5), nn.ReLU(), nn.Linear(5, 2))  # fmt: skip
    model[0].weight.data[1::2], model[0].bias.data[1::2] = model[0].weight.data[::2], model[0].bias.data[::2]
    found = ranked(model)
    first = found.order["0"][:4]
    assert sorted(g // 2 for g in first) == [0, 1, 2, 3]  # one of every pair
    scores = found.scores["0"]
    assert max(scores[first]) < 0.01 < min(scores[g] for g in range(8) if g not in first)
    assert set(found.scores) == {"0", "2", "5"}
    assert not found.notes


def test_large_layers_are_ranked_by_what_flows_through_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric, "LARGE", 10)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 2))
    found = ranked(model)
    with torch.no_grad():
        x = model[:3](X).double()
        parts = (x.var(0, correction=0) * model[3].weight.double().square().sum(0)).view(4, 16).sum(1)
    assert found.order["0"].tolist() == parts.argsort().tolist()


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.first, self.last = nn.Conv2d(3, 4, 6), nn.Linear(4, 8), nn.Linear(6, 2)
        self.back = nn.ConvTranspose1d(8, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.back(self.first(self.conv(x).flatten(1))[..., None]).flatten(1))


def test_widths_that_nothing_reads_that_could_be_fitted_fall_back_to_l1_with_a_note() -> None:
    torch.manual_seed(0)
    model = Recurrent()
    found = ranked(model, [X])
    assert found.notes == ("reconstruction: nothing that could be fitted reads first; l1 there",)
    assert found.order["first"].tolist() == rank(model, trace(model, X[:1]), "l1").order["first"].tolist()


def test_where_nothing_moves_the_weights_decide() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 3)).eval()
    image = torch.rand(1, 3, 2, 2)
    graph = trace(model, image)
    [width] = graph.widths
    found = rank(model, graph, "reconstruction", [(image, torch.zeros(1))])
    weakest = int(model[3].weight.square().sum(0).argmin())
    assert found.order[width.name][0] == weakest
