"""Least squares for a search's candidates: refused by name, exact where it can be, and near to the whole strategy."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from exact_cases import EXACT_CASES, Leftovers, halved, noise, same, settled
from torch import nn

from secateur.pruners.least_squares import QuickFits, Settings, reconstruct
from secateur.pruners.transfer import TransferImages, TransferJob


def test_where_a_reader_can_not_be_fitted_nothing_is_changed() -> None:
    torch.manual_seed(0)
    model, x = settled(Leftovers()), noise(16, 3, 4)
    graph, kept, pruned = halved(model, x, "first")
    before = copy.deepcopy(pruned.state_dict())
    assert QuickFits(model, graph, [x])(pruned, kept) is False
    assert all(torch.equal(v, before[k]) for k, v in pruned.state_dict().items())


@pytest.mark.parametrize("images", [64, 1500], ids=["few samples", "plenty"])
@pytest.mark.parametrize("case", EXACT_CASES)
def test_channels_that_others_can_stand_for_go_without_any_loss(case: str, images: int) -> None:
    torch.manual_seed(0)
    make, only = EXACT_CASES[case]
    model, x = settled(make()), noise(images, 3, 6, 6)
    graph, kept, pruned = halved(model, x, only)
    assert same(model, pruned, x[:8]) > 1e-3
    assert QuickFits(model.train(), graph, x.split(8), ridge=0.0)(pruned, kept)
    assert model.training
    assert same(model, pruned, noise(5, 3, 6, 6, seed=9)) < 1e-7


def plain(grouped: bool) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 6, 3, bias=False, groups=2 if grouped else 1), nn.BatchNorm2d(6),
    )  # fmt: skip


@pytest.mark.parametrize("images", [8, 400], ids=["few samples", "plenty"])
@pytest.mark.parametrize("grouped", [False, True])
def test_one_reader_gets_what_the_whole_strategy_gives_it(grouped: bool, images: int) -> None:
    model, x = settled(plain(grouped)), noise(images, 3, 6, 6)
    graph, kept, pruned = halved(model, x, "0", 2)
    whole = reconstruct(model, pruned, graph, kept, [x], Settings()).state
    assert QuickFits(model, graph, [x])(pruned, kept)
    for name in ("3.weight", "4.running_mean"):
        assert torch.allclose(pruned.state_dict()[name], whole[name], atol=1e-9)
        assert not torch.allclose(whole[name], halved(model, x, "0", 2)[2].state_dict()[name], atol=1e-3)


def test_a_reader_that_is_narrower_itself_is_fitted_to_what_is_left_of_it() -> None:
    torch.manual_seed(2)
    model = settled(nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 2, 1)))
    x = noise(200, 3, 6, 6)
    graph, kept, sliced = halved(model, x)
    pruned = copy.deepcopy(sliced)
    assert QuickFits(model, graph, [x])(pruned, kept)
    with torch.no_grad():
        read, wanted = model[:2](x), model[:3](x)[:, ::2]
        lost = [(net[2](read[:, ::2]) - wanted).square().mean() for net in (sliced, pruned)]
    assert lost[1] < 0.7 * lost[0]


def test_candidates_share_one_pass_over_the_images() -> None:
    model, x = settled(plain(False)), noise(64, 3, 6, 6)
    graph, kept, pruned = halved(model, x, "0", 2)
    passes = 0

    def count(*_: Any) -> None:
        nonlocal passes
        passes += 1

    model.register_forward_pre_hook(count)
    images = TransferImages(lambda: x.split(16))
    probe = TransferJob("lstsq", model, graph, lambda m, k: copy.deepcopy(pruned), images).probe
    assert probe is not None
    first, second = probe(model, kept), probe(model, kept)
    assert passes == 5  # one batch to survey the network, four to look at its inputs
    assert torch.equal(first[3].weight, second[3].weight)
    assert not torch.equal(first[3].weight, pruned[3].weight)
