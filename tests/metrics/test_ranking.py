from __future__ import annotations

import numpy as np
import pytest
import torch
from hand_graphs import grouped, plain, slice_by_hand
from torch import nn

from secateur import trace
from secateur.pruners.errors import CheckpointError, PlanError, UsageError
from secateur.pruners.metrics import rank
from secateur.pruners.metrics.registry import METRICS, slices

BATCHES = [(torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(i)), torch.arange(4)) for i in range(3)]


def refusal(error, call, *args, **kwargs) -> str:
    with pytest.raises(error) as caught:
        call(*args, **kwargs)
    return str(caught.value)


def test_an_unknown_metric_is_refused_with_the_closest_name():
    assert refusal(UsageError, rank, *plain(), "taylr") == (
        "unknown metric 'taylr', did you mean 'taylor'? known are angle, angle_next_layer, bn_scale, distance, "
        "distance_next_layer, fpgm, l1, l2, random, reconstruction, taylor"
    )
    assert refusal(UsageError, rank, *plain(), "xyz").startswith("unknown metric 'xyz'; known are angle, angle_next")


def test_unknown_slots_are_refused():
    assert refusal(UsageError, rank, *plain(), slots="some") == (
        "unknown slots 'some', known are all, producer, consumer"
    )


def test_taylor_without_data_is_refused():
    assert refusal(UsageError, rank, *plain(), "taylor") == (
        "metric taylor needs labelled data; give --data or take l1"
    )


def test_bn_scale_without_norm_layers_is_refused():
    assert "needs normalisation layers" in refusal(UsageError, rank, *grouped(), "bn_scale")


def test_weights_that_are_not_finite_are_refused():
    model, graph = plain()
    model.conv2.bias.data[1] = float("nan")
    assert refusal(CheckpointError, rank, model, graph).startswith("conv2.bias holds NaN or infinite values")


def test_a_count_that_cannot_be_kept_is_refused():
    ranking = rank(*grouped())
    assert refusal(PlanError, ranking.keep, "conv2", 6) == (
        "width 'conv2' can't keep 6 channels: it must be a multiple of 4 (equal blocks), from 4 to 8"
    )
    assert refusal(PlanError, rank(*plain()).keep, "conv1", 9) == (
        "width 'conv1' can't keep 9 channels: it must be from 1 to 8"
    )
    assert refusal(PlanError, rank(*plain()).keep, "conv1", 0).endswith("from 1 to 8")


def by_hand(model: nn.Module, value) -> np.ndarray:
    """Scores of width conv1 in the plain network, slice by slice."""
    made = torch.stack([value(model.conv1.weight[i]) for i in range(8)]).detach()
    read = torch.stack([value(model.conv2.weight[:, i]) for i in range(8)]).detach()
    return (made / made.mean() + read / read.mean()).numpy() / 2


@pytest.mark.parametrize("name, value", [("l1", lambda w: w.abs().sum()), ("l2", lambda w: w.norm())])
def test_norms_equal_the_formula(name, value):
    model, graph = plain()
    np.testing.assert_allclose(rank(model, graph, name).scores["conv1"], by_hand(model, value), rtol=1e-5)


def test_fpgm_removes_what_the_others_can_replace():
    model, graph = plain()
    with torch.no_grad():
        model.conv1.weight[3] = model.conv1.weight[[i for i in range(8) if i != 3]].mean(0)
    ranking = rank(model, graph, "fpgm", slots="producer")
    assert ranking.order["conv1"][0] == 3
    distances = [sum((a - b).norm().item() for b in model.conv1.weight) for a in model.conv1.weight]
    np.testing.assert_allclose(ranking.scores["conv1"], np.array(distances) / np.mean(distances), rtol=1e-5)


def test_bn_scale_is_gamma_and_falls_back_with_a_note():
    model, graph = plain()
    ranking = rank(model, graph, "bn_scale")
    np.testing.assert_array_equal(ranking.scores["conv1"], model.bn1.weight.detach().abs().numpy())
    assert ranking.notes == ("bn_scale: no norm layer on conv2, ranked there by l1",)
    np.testing.assert_array_equal(ranking.order["conv2"], rank(model, graph, "l1").order["conv2"])


def test_taylor_of_a_consumer_is_activation_times_gradient():
    model, graph = plain()
    seen = []
    model.conv2.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]) or inputs[0].retain_grad())
    expected = np.zeros(8)
    for images, targets in BATCHES:
        nn.functional.cross_entropy(model(images), targets).backward()
        expected += (seen[-1] * seen[-1].grad).sum((0, 2, 3)).square().detach().numpy() / len(BATCHES)
    model, graph = plain()
    scores = rank(model, graph, "taylor", BATCHES, slots="consumer").scores["conv1"]
    np.testing.assert_allclose(scores, expected, rtol=1e-3)


class Speaker(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.wide, self.narrow = nn.Embedding(9, 4), nn.Linear(4, 6), nn.Linear(6, 9)

    def forward(self, tokens):
        return self.narrow(self.wide(self.words(tokens)).relu())


def test_taylor_on_sequences_is_of_the_token_after_each():
    torch.manual_seed(0)
    model, tokens = Speaker(), torch.arange(10).reshape(2, 5) % 9
    inner = model.wide(model.words(tokens)).relu()
    inner.retain_grad()
    nn.functional.cross_entropy(model.narrow(inner)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).backward()
    expected = (inner * inner.grad).sum((0, 1)).square().detach().numpy()
    graph = trace(model, tokens)
    scores = rank(model, graph, "taylor", [(tokens, tokens[:, 1:].flatten())], slots="consumer").scores["wide"]
    np.testing.assert_allclose(scores, expected, rtol=1e-3)


def test_a_channel_that_nothing_reads_goes_first():
    model, graph = plain()
    with torch.no_grad():
        model.conv2.weight[:, 5] = 0
    for name, kind in [("l1", "consumer"), ("l2", "consumer"), ("taylor", "all")]:
        assert rank(model, graph, name, BATCHES, slots=kind).order["conv1"][0] == 5


def test_ties_are_broken_by_index():
    model, graph = plain()
    for parameter in model.parameters():
        nn.init.ones_(parameter)
    for name in ("l1", "l2", "fpgm", "bn_scale"):
        assert rank(model, graph, name).order["conv1"].tolist() == list(range(8)), name
        assert rank(model, graph, name).keep("conv1", 3) == (5, 6, 7)


@pytest.mark.parametrize("name", [n for n in METRICS.names() if not n.startswith(("angle", "distance"))])
def test_rankings_repeat_and_leave_the_model_alone(name):
    model, graph = plain()
    model.conv1.weight.requires_grad_(False)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    first, second = (rank(model, graph, name, iter(BATCHES), seed=7) for _ in range(2))
    for width in graph.widths:
        np.testing.assert_array_equal(first.order[width.name], second.order[width.name])
        assert sorted(first.order[width.name]) == list(range(width.size))
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not model.conv1.weight.requires_grad


def test_random_depends_on_the_seed():
    orders = {tuple(rank(*plain(), "random", seed=s).order["conv1"]) for s in range(4)}
    assert len(orders) == 4


@pytest.mark.parametrize("slot_kind", ["all", "producer", "consumer"])
def test_blocks_stay_equal(slot_kind):
    model, graph = grouped()
    ranking = rank(model, graph, slots=slot_kind)
    for width in graph.widths:
        for n in range(4, width.size + 1, 4):
            kept = ranking.keep(width, n)
            assert np.bincount(width.block_of[list(kept)]).tolist() == [n // 4] * 4
            assert list(kept) == sorted(kept)
        assert set(ranking.keep(width, 4)) <= set(ranking.keep(width, 8))


def test_in_every_block_the_best_stay():
    model, graph = grouped()
    ranking = rank(model, graph)
    width = graph.widths[0]
    for block in range(4):
        members = np.flatnonzero(width.block_of == block)
        best = members[np.argsort(ranking.scores["conv1"][members])[-1]]
        assert best in ranking.keep(width, 4)


def test_slices_of_a_grouped_convolution_are_what_slicing_takes_away():
    model, graph = grouped()
    width = graph.widths[0]
    entry = next(u for u in width.uses if u.slot.blocks == 4)
    parts = slices(model.conv2.weight.detach(), entry)
    assert parts.shape == (12, 2 * 9)
    small = slice_by_hand(model, graph, {"conv1": [0, 3, 6, 9]})
    torch.testing.assert_close(small.conv2.weight.sum().double(), parts[[0, 3, 6, 9]].sum())
