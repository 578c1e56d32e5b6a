from __future__ import annotations

import pytest
import torch
from hand_graphs import grouped, plain, slice_by_hand
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from secateur.pruners.costs import CostModel, Costs, measure, profile, register_precision, stored_tensors
from secateur.pruners.costs.model import Stored, predict

IMAGE = torch.zeros(2, 3, 4, 4)


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.ConvTranspose2d(3, 4, 2, stride=2, groups=1)
        self.table = nn.Parameter(torch.zeros(4, 4))
        self.unused = nn.Linear(3, 3)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        x = self.up(x).flatten(2).mT @ self.table
        return self.attention(x, key=x, value=x, need_weights=False)[0]


def test_names_what_was_not_counted():
    costs = measure(Odd(), IMAGE)
    assert costs.uncounted == ("unused",)
    assert costs.macs == 3 * 16 * 4 * 4 + 64 * 4 * 4 + 4 * 64 * 4 * 4 + 2 * 64 * 64 * 4


def test_counts_equal_the_closed_form():
    model, graph = plain()
    macs = 8 * 3 * 9 * 16 + 6 * 8 * 9 * 4 + 24 * 5
    params = 8 * 3 * 9 + 2 * 8 + 6 * 8 * 9 + 6 + 24 * 5 + 5
    size = 4 * (params + 2 * 8) + 8  # running statistics, and a counter of 64 bits
    expected = Costs(params, macs, 32 * params, size)
    assert measure(model, IMAGE) == expected
    assert CostModel.of(model, graph).predict({}) == expected


@pytest.mark.parametrize("build", [plain, grouped])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_prediction_equals_the_count_on_the_sliced_model(build, data):
    model, graph = build()
    kept = {}
    for width in graph.widths:
        per_block = data.draw(st.integers(1, width.size // width.n_blocks))
        blocks = [[i for i in range(width.size) if width.block_of[i] == b] for b in range(width.n_blocks)]
        kept[width.name] = sorted(i for block in blocks for i in data.draw(st.permutations(block))[:per_block])
    small = slice_by_hand(model, graph, kept)
    costs = CostModel.of(model, graph).predict(kept)
    assert costs == measure(small, IMAGE)
    assert costs == predict(graph, kept, stored_tensors(model))
    assert costs.params == sum(p.numel() for p in small.parameters())
    names = [n for n, _ in model.named_parameters()]
    assert predict(graph, kept, names).params == costs.params


def test_tied_weights_count_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(4, 4, bias=False)
            self.second = nn.Linear(4, 4, bias=False)
            self.second.weight = self.first.weight

        def forward(self, x):
            return self.second(self.first(x))

    costs = measure(Tied(), torch.zeros(1, 4))
    assert (costs.params, costs.macs, costs.size_bytes) == (16, 32, 64)


def test_a_layer_kind_may_have_its_own_precision():
    class OneBit(nn.Conv2d):
        pass

    class Inherits(OneBit):
        pass

    register_precision(OneBit, weights=1)
    model = nn.Sequential(Inherits(3, 4, 3), nn.Conv2d(4, 2, 1, bias=False))
    assert stored_tensors(model)["0.weight"] == Stored(True, 1)
    assert measure(model, IMAGE).bits == 4 * 3 * 9 + 32 * 4 + 32 * 8


def test_half_precision_takes_half_the_bits():
    model = nn.Linear(4, 2, bias=False).half()
    assert stored_tensors(model) == {"weight": Stored(True, 16, 2)}


def test_the_model_is_left_as_it_was():
    model, _ = plain()
    model.train()
    model.bn1.eval()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    measure(model, IMAGE)
    profile(model, IMAGE, repeats=1)
    assert (model.training, model.conv1.training, model.bn1.training) == (True, True, False)
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_profile_has_one_row_per_layer_and_adds_up():
    model, _ = plain()
    rows = profile(model, IMAGE, repeats=3)
    assert [(r.name, r.kind, r.shape) for r in rows] == [
        ("conv1", "Conv2d", (1, 8, 4, 4)),
        ("bn1", "BatchNorm2d", (1, 8, 4, 4)),
        ("conv2", "Conv2d", (1, 6, 2, 2)),
        ("fc", "Linear", (1, 5)),
    ]
    total = measure(model, IMAGE)
    assert sum(r.params for r in rows) == total.params
    assert sum(r.macs for r in rows) == total.macs
    assert sum(r.bits for r in rows) == total.bits
    assert all(r.ms > 0 for r in rows)


def test_inputs_may_be_named():
    model, _ = plain()
    assert measure(model, {"x": IMAGE}) == measure(model, (IMAGE,)) == measure(model, IMAGE)


def test_relative_costs():
    half = Costs(5, 1, 160, 0).relative_to(Costs(10, 4, 320, 0))
    assert half == {"params": 0.5, "macs": 0.25, "bits": 0.5, "size_bytes": 1.0}
