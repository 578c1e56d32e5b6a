"""The metrics of networks of few bits: what is refused, every formula by hand, the fallbacks, which go first."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hand_graphs import graph_of, use, width
from torch import Tensor, nn

from secateur.models import registry
from secateur.pruners.base import BasicPruning
from secateur.pruners.costs import quantizer_of
from secateur.pruners.errors import UsageError
from secateur.pruners.graph import ChannelGraph
from secateur.pruners.metrics import rank
from secateur.pruners.metrics.binary import angle, kernel_angles, kernel_distances, lines
from secateur.pruners.metrics.binary import distance as squared
from secateur.training.binarization.kinds import KINDS, quantized_layers

FEW_BITS = [name for name in sorted(KINDS) if name not in ("Real", "SemiReal")]


def degrees(cosine: float) -> float:
    return math.degrees(math.acos(cosine))


def conv(kind: str, weight: list[Any]) -> nn.Conv2d:
    values = torch.tensor(weight)
    layer = KINDS[kind].conv(values.shape[1], len(values), kernel_size=tuple(values.shape[2:]), bias=False)
    layer.weight.data.copy_(values)
    return layer


def linear(kind: str, weight: list[Any]) -> nn.Linear:
    values = torch.tensor(weight)
    layer = KINDS[kind].linear(values.shape[1], len(values), bias=False)
    layer.weight.data.copy_(values)
    return layer


class Chain(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.conv1, self.conv2, self.fc = layers

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv2(self.conv1(x)).flatten(1))


# kernels of 1x2: |w| = 5 and 13, cosines with their signs 7 / (5 sqrt 2) and 17 / (13 sqrt 2); 0 and 90 degrees
A, B, EVEN, NONE = [3.0, -4.0], [5.0, 12.0], [2.0, 2.0], [0.0, 0.0]
ANGLE_A, ANGLE_B = degrees(7 / (5 * 2**0.5)), degrees(17 / (13 * 2**0.5))


def chain(first: nn.Module, second: nn.Module, last: nn.Module) -> tuple[nn.Module, ChannelGraph]:
    model = Chain(first, second, last)
    n, m = (len(layer.weight) for layer in (first, second))  # type: ignore[arg-type]
    widths = [
        width("conv1", n, use("conv1.weight", 0, "out", n), use("conv2.weight", 1, "in", n)),
        width("conv2", m, use("conv2.weight", 0, "out", m), use("fc.weight", 1, "in", m)),
    ]
    return model, graph_of(model, widths, {"conv1": 1, "conv2": 1, "fc": 1})


def real_conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, (1, 2), bias=False)


def scores(built: tuple[nn.Module, ChannelGraph], name: str, where: str = "conv1") -> np.ndarray:
    return -rank(*built, name).scores[where]


def two() -> tuple[nn.Module, ChannelGraph]:
    """conv1: kernels (A, B) and (EVEN, A); conv2 of three filters on them; a linear layer of two rows."""
    return chain(
        conv("BinaryNet", [[[A], [B]], [[EVEN], [A]]]),
        conv("BinaryNet", [[[A], [EVEN]], [[B], [EVEN]], [[B], [NONE]]]),
        linear("BinaryNet", [[0.5, -1.0, 2.0], [1.5, 1.0, -2.0]]),
    )


# -- refusals


def test_a_width_between_real_layers_is_refused_by_name() -> None:
    built = chain(real_conv(1, 2), real_conv(2, 2), linear("BinaryNet", [[1.0, 2.0]]))
    with pytest.raises(UsageError) as caught:
        rank(*built, "angle")
    assert str(caught.value) == (
        "metric angle compares weights with what they are quantized to, but width conv1 has none: it is made by conv1 "
        "and read by conv2, none of which quantizes weights; take l1, or --skip conv1"
    )


@pytest.mark.parametrize("layer", [nn.Conv2d(1, 1, 2), KINDS["XnorNet"].linear(2, 2), KINDS["SemiReal"].conv(1, 1, 2)])
def test_kernel_metrics_of_other_layers_are_refused(layer: nn.Module) -> None:
    with pytest.raises(UsageError, match="are for convolutions that quantize their weights, not "):
        kernel_angles(layer)


def test_an_unknown_order_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown ranking 'small', known are smallest, largest, random"):
        rank(*two(), "angle", first="small")


# -- formulas


def test_kernels_by_hand() -> None:
    layer = conv("BinaryConnect", [[[A], [B]], [[EVEN], [NONE]]])
    np.testing.assert_allclose(kernel_angles(layer), [[ANGLE_A, ANGLE_B], [0, 90]], rtol=1e-9)
    np.testing.assert_array_equal(kernel_distances(layer), [[4 + 9, 16 + 121], [2, 2]])
    scaled = conv("XnorNet", [[[A], [B]], [[EVEN], [EVEN]]])
    np.testing.assert_allclose(kernel_angles(scaled), [[ANGLE_A, ANGLE_B], [0, 0]], rtol=1e-9)  # scales don't matter
    np.testing.assert_array_equal(kernel_distances(scaled), [[9 + 4, 1 + 36], [0, 0]])  # alpha = 24 / 4 = 6, and 2


def test_dorefa_kernels_by_hand() -> None:
    # the largest is 1 of 4 levels -1, -1/3, 1/3, 1; tanh(w) / 2 tanh(1) + 1/2 of 0.1 is 0.565: level 2 of 3, so 1/3
    layer = conv("DoReFa", [[[[1.0, 0.1]]]])
    np.testing.assert_allclose(kernel_distances(layer), [[(1 / 3 - 0.1) ** 2]], rtol=1e-6)
    cosine = (1 + 0.1 / 3) / math.hypot(1, 0.1) / math.hypot(1, 1 / 3)
    np.testing.assert_allclose(kernel_angles(layer), [[degrees(cosine)]], rtol=1e-6)


def test_an_output_channel_has_the_mean_over_its_kernels() -> None:
    np.testing.assert_allclose(scores(two(), "angle"), [(ANGLE_A + ANGLE_B) / 2, ANGLE_A / 2], rtol=1e-6)
    found = np.array([(13 + 137) / 2, (2 + 13) / 2])
    np.testing.assert_allclose(scores(two(), "distance"), found / found.mean(), rtol=1e-6)


def test_an_input_channel_has_the_mean_over_the_kernels_that_read_it() -> None:
    found = [(ANGLE_A + 2 * ANGLE_B) / 3, (0 + 0 + 90) / 3]
    np.testing.assert_allclose(scores(two(), "angle_next_layer"), found, rtol=1e-6)
    sums = np.array([(13 + 2 * 137) / 3, (2 + 2 + 2) / 3])
    np.testing.assert_allclose(scores(two(), "distance_next_layer"), sums / sums.mean(), rtol=1e-6)


def test_a_linear_layer_by_hand() -> None:
    layer = linear("BinaryConnect", [[0.5, -1.0, 2.0], [1.5, 1.0, -2.0]])
    rows = [degrees(3.5 / (5.25 * 3) ** 0.5), degrees(4.5 / (7.25 * 3) ** 0.5)]
    columns = [degrees(2 / (2.5 * 2) ** 0.5), 0, 0]
    np.testing.assert_allclose(lines(layer, angle).rows, rows, rtol=1e-9)
    np.testing.assert_allclose(lines(layer, angle).columns, columns, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(lines(layer, squared).rows, [0.25 + 0 + 1, 0.25 + 0 + 1])  # sums, not means
    np.testing.assert_allclose(lines(layer, squared).columns, [0.5, 0, 2])
    np.testing.assert_allclose(scores(two(), "angle_next_layer", "conv2"), columns, rtol=1e-6, atol=1e-9)


def test_a_channel_with_several_features_has_their_mean() -> None:
    layer = linear("BinaryConnect", [[0.5, -1.0, 2.0, 3.0]])
    model = nn.Sequential(real_conv(1, 2), layer)
    graph = graph_of(model, [width("0", 2, use("0.weight", 0, "out", 2), use("1.weight", 1, "in", 2, m=2))], {"1": 1})
    found = np.array([0.25 / 2, (1 + 4) / 2])
    np.testing.assert_allclose(scores((model, graph), "distance_next_layer", "0"), found / found.mean(), rtol=1e-6)


def test_channels_that_several_layers_make_have_the_mean_of_layers() -> None:
    first, second = [[A], [EVEN]], [[EVEN], [B]]
    model = nn.ModuleDict({"a": conv("BinaryNet", first), "b": conv("BinaryNet", second), "real": real_conv(1, 2)})
    uses = [use(f"{layer}.weight", 0, "out", 2) for layer in model]
    model["a"].weight.data = model["a"].weight.data.view(2, 1, 1, 2)
    graph = graph_of(model, [width("a", 2, *uses)], {})
    np.testing.assert_allclose(scores((model, graph), "angle", "a"), [ANGLE_A / 2, ANGLE_B / 2], rtol=1e-6)
    relative = [(13 / 7.5 + 2 / 69.5) / 2, (2 / 7.5 + 137 / 69.5) / 2]
    np.testing.assert_allclose(scores((model, graph), "distance", "a"), relative, rtol=1e-6)


def test_a_grouped_convolution_keeps_its_blocks_apart() -> None:
    layer = KINDS["BinaryConnect"].conv(4, 2, kernel_size=(1, 2), groups=2, bias=False)
    layer.weight.data.copy_(torch.tensor([[[A], [EVEN]], [[EVEN], [B]]]))
    np.testing.assert_allclose(lines(layer, angle, blocks=2).columns, [ANGLE_A, 0, 0, ANGLE_B], rtol=1e-9)


def test_channels_that_are_gone_have_no_part() -> None:
    full = conv("XnorNet", [[[A], [B]], [[EVEN], [A]]])
    gone = conv("XnorNet", [[[A], [NONE], [B]], [[EVEN], [NONE], [A]], [[NONE], [NONE], [NONE]]])
    for error in (angle, squared):
        found, expected = lines(gone, error), lines(full, error)
        torch.testing.assert_close(found.rows[:2], expected.rows)
        torch.testing.assert_close(found.columns[[0, 2]], expected.columns)


@pytest.mark.parametrize("kind", FEW_BITS)
def test_every_kind_tells_what_it_computes_with(kind: str) -> None:
    torch.manual_seed(0)
    for layer, x in ((KINDS[kind].input_conv(3, 4, 3), torch.randn(2, 3, 5, 5)),
                     (KINDS[kind].input_linear(6, 4), torch.randn(2, 6))):  # fmt: skip
        quantized = quantizer_of(layer)(layer.weight, layer).detach()
        plain = nn.Conv2d(3, 4, 3) if x.ndim == 4 else nn.Linear(6, 4)
        plain.weight.data, plain.bias.data = quantized, layer.bias.data
        torch.testing.assert_close(plain(x), layer.eval()(x))


# -- fallbacks, order


def test_a_side_without_quantized_layers_takes_the_other() -> None:
    first = chain(real_conv(1, 2), two()[0].conv2, real_conv(3, 1))
    ranking = rank(*first, "angle")
    np.testing.assert_array_equal(ranking.scores["conv1"], rank(*two(), "angle_next_layer").scores["conv1"])
    assert ranking.notes == ("angle: the layers that read conv1 are ranked there instead",)
    ranking = rank(*first, "angle_next_layer")
    np.testing.assert_array_equal(ranking.scores["conv2"], rank(*two(), "angle").scores["conv2"])
    assert ranking.notes == ("angle_next_layer: the layers that make conv2 are ranked there instead",)


def test_the_largest_go_first_and_equal_ones_by_index() -> None:
    kernels = [[EVEN], [A], [B], [A], [B], [[6.0, 8.0]]]  # the last one has the angle of A
    built = chain(conv("BinaryNet", kernels), real_conv(6, 1), real_conv(1, 1))
    assert ANGLE_B > ANGLE_A

    def order(**more: Any) -> list[int]:
        graph = ChannelGraph(built[1].widths[:1], (), built[1].shapes, (), built[1].network)
        return rank(built[0], graph, "angle", **more).order["conv1"].tolist()

    assert order() == order(first="largest") == [2, 4, 1, 3, 5, 0]
    assert order(first="smallest") == [0, 1, 3, 5, 2, 4]
    assert order(first="random", seed=1) == rank(*built, "random", seed=1).order["conv1"].tolist()


@pytest.mark.parametrize("name", ["angle", "distance", "angle_next_layer", "distance_next_layer"])
@pytest.mark.parametrize("kind", FEW_BITS)
def test_real_networks_are_ranked(kind: str, name: str) -> None:
    torch.manual_seed(0)
    layers = registry.layer_arguments("resnet20_binary", KINDS[kind].layers())
    model = registry.create("resnet20_binary", num_classes=3, in_channels=1, blocks=1, **layers)
    assert any(True for _ in quantized_layers(model))
    pruner = BasicPruning(model, torch.randn(1, 1, 8, 8))
    first, second = pruner.rank(name), pruner.rank(name)
    for w in pruner.graph.widths:
        assert sorted(first.order[w.name]) == list(range(w.size))
        np.testing.assert_array_equal(first.order[w.name], second.order[w.name])
