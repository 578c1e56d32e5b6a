"""Ties found by running a network once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.pruners.errors import NotPrunableError, UsageError
from secateur.pruners.graph import ChannelGraph
from secateur.pruners.trace.trace import trace


class Function(nn.Module):
    """Two convolutions with a function between or behind them."""

    def __init__(self, function: Any, channels: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, 4, 1)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.function(self.first(x)))


def graph_of(model: nn.Module, size: int = 8) -> ChannelGraph:
    return trace(model, torch.randn(2, 3, size, size))


def sizes(graph: ChannelGraph) -> dict[str, int]:
    return {w.name: w.size for w in graph.widths}


def shifted(x: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    out[:, :2, 1:] = x[:, :2, :-1]
    out[:, 2:] = x[:, 2:]
    return out


FREEZING = {
    "a Fourier transform over the channels freezes them": (lambda x: torch.fft.fft(x, dim=1).real, "runs along the"),
    "writing at numbered channels freezes them": (
        lambda x: x.index_add(1, torch.arange(8), x),
        "index_add writes at numbered places of the axis",
    ),
    "a softmax over the channels freezes them": (lambda x: x.softmax(1), "_softmax runs along the channels"),
    "the number of the largest channel freezes them": (
        lambda x: x * x.max(1, keepdim=True)[1], "channels are read by number"
    ),
    "a product of the channels freezes them": (lambda x: x - x.prod(1, keepdim=True), "prod runs over the channels"),
    "a slice with a step freezes the channels": (lambda x: x[:, ::2].repeat(1, 2, 1, 1), "slice takes positions"),
    "channels that leave torch stay": (lambda x: x * float(x.detach().numpy().max()), "numpy takes it out of torch"),
    "one channel picked by number freezes them": (lambda x: x * x[:, :1], "slice takes positions"),
    "rolling the channels freezes them": (lambda x: x.roll(1, 1), "roll reorders the axis"),
    "pixels and channels seen as channels and pixels freeze, as their number says which go together": (
        lambda x: x[..., :2, :2].flatten(2).mT.reshape(2, 8, 2, 2), "view lays channels over axes of pixels"
    ),
    "what is put together of empty parts has no channels": (
        lambda x: x + torch.stack([x[:, :, :0], x[:, :, :0]], 4).sum((2, 4))[:, :, None],
        "add joins it with a tensor whose channels are unknown",
    ),
    "an operation without a rule freezes what it reads": (
        torch.linalg.inv,
        "no rule for the operation linalg_inv_ex",
    ),
    "picking channels by number freezes them": (lambda x: x[:, torch.arange(8)], "index reorders the axis"),
    "adding a constant of unknown channels freezes them": (
        lambda x: x + torch.linspace(0, 1, 8).view(1, 8, 1, 1),
        "add joins it with a tensor whose channels are unknown",
    ),
}


@pytest.mark.parametrize("name", FREEZING)
def test_freezes(name: str) -> None:
    function, reason = FREEZING[name]
    graph = graph_of(Function(function))
    assert graph.widths == ()
    found = [f for f in graph.frozen if reason in f.reason]
    assert found, [f.reason for f in graph.frozen]
    assert any(f.site.file == __file__ for f in found)


def test_a_network_that_fails_is_refused_with_file_and_line() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.view(7, 7)

    with pytest.raises(NotPrunableError, match=r"can't be run on the example input: RuntimeError.*test_tracing.py:\d+"):
        graph_of(Broken())


def test_an_unknown_layer_to_skip_is_refused_with_the_closest_name() -> None:
    with pytest.raises(UsageError, match=r"no layer frist whose channels could be skipped; did you mean first\?"):
        trace(Function(F.relu), torch.randn(1, 3, 8, 8), skip=["frist"])


def test_a_skipped_layer_stays() -> None:
    assert trace(Function(F.relu), torch.randn(1, 3, 8, 8), skip=["first"]).widths == ()


@pytest.mark.parametrize(
    ("skip", "whole"),
    [
        (["1"], {"1.0", "1.2.0"}), (["1.2"], {"1.2.0"}), (["1.2", "0"], {"0", "1.2.0"}), ([], set()),
    ],
)  # fmt: skip
def test_all_layers_in_a_skipped_part_stay(skip: list[str], whole: set[str]) -> None:
    inner = nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU())
    part = nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU(), inner)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), part, nn.Conv2d(8, 8, 1), nn.Conv2d(8, 2, 1))
    graph = trace(model, torch.randn(1, 3, 4, 4), skip=skip)
    assert {w.name for w in graph.widths} == {"0", "1.0", "1.2.0", "2"} - whole


def test_a_part_without_layers_can_not_be_skipped() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Sequential(nn.ReLU()), nn.Conv2d(8, 2, 1))
    with pytest.raises(UsageError, match="no layer 1 whose channels could be skipped"):
        trace(model, torch.randn(1, 3, 4, 4), skip=["1"])


def test_modules_that_the_input_does_not_reach_are_named() -> None:
    model = Function(F.relu)
    model.spare = nn.Linear(4, 4)
    frozen = {str(s): f.reason for f in graph_of(model).frozen for s in f.slots}
    assert frozen["spare.weight[0]"] == "not reached by the example input"


def test_why_modules_that_run_in_training_only_stay_is_said() -> None:
    class Auxiliary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.spare = nn.Linear(8, 8), nn.Linear(8, 2), nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            if self.training:
                raise KeyError("targets")
            return self.second(x)

    graph = trace(Auxiliary(), torch.randn(1, 8))
    (spare,) = [f for f in graph.frozen if str(f.slots[0]) == "spare.weight[0]"]
    assert spare.reason == "not reached by the example input, and training on it fails: KeyError: 'targets'"
    assert spare.site.file == __file__
    assert [w.name for w in graph.widths] == ["first"]


PASSING = {
    "relu": (F.relu, {"first": 8}),
    "batch norm": (nn.BatchNorm2d(8), {"first": 8}),
    "a scale per channel": (nn.PReLU(8), {"first": 8}),
    "pooling": (lambda x: F.avg_pool2d(F.max_pool2d(x, 2), 2), {"first": 8}),
    "spatial slices": (lambda x: x[:, :, ::2, 1:], {"first": 8}),
    "interpolation": (lambda x: F.interpolate(x, scale_factor=2), {"first": 8}),
    "a sum with a constant for all channels": (lambda x: x * 2 + torch.ones(1), {"first": 8}),
    "a gate of its own channels": (lambda x: x * x.mean((2, 3), keepdim=True).sigmoid(), {"first": 8}),
    "channels in reverse order": (lambda x: x.flip(1), {"first": 8}),
    "channels laid side by side twice": (lambda x: x.repeat(1, 2, 1, 1)[:, :8], {"first": 8}),
    "unfolding and folding": (lambda x: F.fold(F.unfold(x, 3, padding=1), x.shape[2:], 3, padding=1), {"first": 8}),
    "a Fourier transform over space": (lambda x: torch.fft.fft2(x).real, {"first": 8}),
    "torch's own channel shuffle": (nn.ChannelShuffle(2), {"first": 4}),
    "pooling and back": (lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2), {"first": 8}),
    "a mean over the channels, then of those that are kept": (lambda x: x - x.mean(1, keepdim=True), {"first": 8}),
    "an empty part put before the whole": (lambda x: torch.cat([x[:, :, :0].mul(2), x], 2), {"first": 8}),
    "an empty part of repeated places": (
        lambda x: torch.cat([x.mean(2, keepdim=True).expand(-1, -1, 8, -1)[:, :, :0], x], 2), {"first": 8}
    ),
    "dropout": (nn.Dropout(0.5), {"first": 8}),
    "a transposition there and back": (lambda x: x.permute(0, 2, 3, 1).relu().permute(0, 3, 1, 2), {"first": 8}),
    "a channel shuffle ties the channels of one place in all blocks": (
        lambda x: x.view(x.size(0), 2, 4, *x.shape[2:]).transpose(1, 2).reshape(x.shape),
        {"first": 4},
    ),
    "two halves swapped go together": (lambda x: torch.cat(x.chunk(2, 1)[::-1], 1), {"first": 4}),
    "normalising": (lambda x: F.normalize(x, dim=1), {"first": 8}),
    "blocks that go whole where nothing can go otherwise": (
        lambda x: x.view(2, 4, 2, 8, 8).amax(2).repeat_interleave(2, 1),
        {"first": 4},
    ),
    "slices counted from the end follow": (lambda x: torch.cat([x[:, -4:], x[:, :-4]], 1), {"first": 8}),
    "slices after an ellipsis follow": (lambda x: torch.cat([x[:, 4:, ...], x[..., :4, :, :]], 1), {"first": 8}),
    "narrow follows": (lambda x: torch.cat([x.narrow(1, 0, 6), torch.narrow(x, 1, 6, 2)], 1), {"first": 8}),
    "slices that are written to follow": (shifted, {"first": 8}),
    "zeros beside channels may go": (
        lambda x: torch.cat([x[:, :4], torch.zeros(2, 4, 8, 8)], 1),
        {"first": 4, "second": 4},
    ),
    "slices with plain ends follow": (lambda x: torch.cat([x[:, :4], x[:, 4:]], 1), {"first": 8}),
    "rows of channels, one below the other": (lambda x: x.mT.reshape(-1, 8).mul(2).view(x.shape).mT, {"first": 8}),
    "a detour over a flat view": (lambda x: x.flatten(2).view(x.shape), {"first": 8}),
}


@pytest.mark.parametrize("name", PASSING)
def test_labels_pass_through(name: str) -> None:
    function, expected = PASSING[name]
    assert sizes(graph_of(Function(function))) == expected


def test_depthwise_convolution_ties_input_and_output() -> None:
    graph = graph_of(Function(nn.Conv2d(8, 8, 3, padding=1, groups=8)))
    (width,) = graph.widths
    assert {str(u.slot) for u in width.uses} == {
        "first.weight[0]", "first.bias[0]", "function.weight[0]", "function.bias[0]", "second.weight[1]",
    }  # fmt: skip


@pytest.mark.parametrize(("trained", "widths"), [(False, {"1": 8}), (True, {"0": 3, "1": 8})], ids=["fixed", "trained"])
def test_a_convolution_that_only_scales_channels_keeps_them_where_it_is_fixed(
    trained: bool, widths: dict[str, int]
) -> None:
    """As the mean of colours is taken off: colours of the network's input stay."""
    shift = nn.Conv2d(3, 3, 1)
    shift.weight.data = torch.diag(torch.tensor([1.0, 2.0, 4.0])).view(3, 3, 1, 1)
    shift.requires_grad_(trained)
    graph = graph_of(nn.Sequential(shift, nn.Conv2d(3, 8, 3), nn.Conv2d(8, 3, 3)))
    assert sizes(graph) == widths


def test_grouped_convolution_keeps_its_groups_equally_full() -> None:
    graph = graph_of(Function(nn.Conv2d(8, 8, 3, padding=1, groups=2)))
    first, second = graph.widths
    assert (first.n_blocks, second.n_blocks) == (2, 2)
    assert first.block_of.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_group_norm_keeps_blocks_equal_and_says_that_removing_is_not_zeroing() -> None:
    (width,) = graph_of(Function(nn.GroupNorm(4, 8))).widths
    assert (width.n_blocks, width.exact) == (4, False)


def test_flatten_gives_each_channel_all_its_features() -> None:
    model = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.Flatten(), nn.Linear(6 * 64, 5))
    (width,) = graph_of(model).widths
    use = next(u for u in width.uses if str(u.slot) == "2.weight[1]")
    assert use.index.shape == (6, 64)
    assert use.index[2].tolist() == list(range(128, 192))


def test_concatenation_keeps_widths_apart() -> None:
    class Cat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 5, 1), nn.Conv2d(9, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(torch.cat([self.a(x), self.b(x)], dim=1))

    graph = graph_of(Cat())
    assert sizes(graph) == {"a": 4, "b": 5}
    use = next(u for u in graph.width("b").uses if u.role == "in")
    assert use.index.ravel().tolist() == [4, 5, 6, 7, 8]


def test_zero_padding_makes_channels_of_their_own() -> None:
    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(F.pad(self.a(x), (0, 0, 0, 0, 2, 2)) + self.b(x))

    graph = graph_of(Padded())
    assert sizes(graph) == {"a": 4, "b": 4}
    use = next(u for u in graph.width("b").uses if str(u.slot) == "b.weight[0]")
    assert use.index.ravel().tolist() == [0, 1, 6, 7]


def test_a_shared_module_ties_its_input_to_its_output() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(self.b(self.b(self.a(x))))

    (width,) = graph_of(Twice()).widths
    roles = {str(u.slot): u.role for u in width.uses}
    assert roles["b.weight[0]"] == "out"
    assert roles["b.weight[1]"] == "in"


def test_a_tied_weight_is_one_slot() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1))
    model[2].weight = model[1].weight
    graph = graph_of(model)
    assert graph.aliases == {"2.weight": "1.weight"}
    assert sizes(graph) == {"0": 4}


def test_tracing_leaves_the_model_as_it_was() -> None:
    model = Function(nn.Sequential(nn.BatchNorm2d(8), nn.Dropout()))
    model.function[1].eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    graph_of(model)
    assert model.training
    assert not model.function[1].training
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert not model._forward_hooks


def test_two_traces_say_the_same() -> None:
    model = Function(nn.BatchNorm2d(8))
    first, second = graph_of(model), graph_of(model)
    assert first.widths == second.widths
    for a, b in zip(first.widths, second.widths, strict=True):
        for u, v in zip(a.uses, b.uses, strict=True):
            assert np.array_equal(u.index, v.index)


def test_dict_and_tuple_inputs() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, left: Tensor, right: Tensor) -> dict[str, Tensor]:
            return {"out": self.c(self.a(left) + self.b(right))}

    x = torch.randn(2, 3)
    assert sizes(trace(Two(), (x, x))) == sizes(trace(Two(), {"left": x, "right": x})) == {"a": 4}


def test_why_names_operation_file_and_line() -> None:
    graph = graph_of(Function(nn.BatchNorm2d(8)))
    text = graph.why("second")
    assert "second: 8 input channels belong to the width first" in text
    assert "output channels must stay: an output of the network at" in text
    with pytest.raises(UsageError, match=r"there is no layer secnd; did you mean second\?"):
        graph.why("secnd")
