"""The norm that only shifts, padding with signs, coded inputs; the MicroNet score."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from secateur.pruners.errors import UsageError
from secateur.pruners.trace.trace import trace
from secateur.training.binarization import micronet, thermometer
from secateur.training.binarization.kinds import KINDS
from secateur.training.binarization.modules import IRBatchNorm2d, ThermometerCoding, checkerboard_padded, fold
from secateur.training.binarization.quantizers import sign


def test_a_norm_without_statistics_is_not_folded() -> None:
    with pytest.raises(ValueError, match="a batch norm without running statistics has nothing to fold"):
        fold(nn.BatchNorm2d(2, track_running_stats=False))


@pytest.mark.parametrize("affine", [True, False])
def test_a_folded_norm_has_the_signs_of_the_batch_norm(affine: bool) -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(6, affine=affine).double().eval()
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    if affine:
        norm.weight.data = torch.tensor([1.0, -1.0, 0.3, -2.0, 0.0, 0.0]).double()
        norm.bias.data = torch.tensor([0.2, 0.3, -1.0, 0.1, 1.0, -1.0]).double()
    folded = fold(norm)
    x = torch.randn(4, 6, 9, 9).double()
    assert torch.equal(sign(folded(x)), sign(norm(x)))
    assert [name for name, _ in folded.named_parameters()] == ["offset"]


def test_the_offset_begins_at_zero_and_learns() -> None:
    norm = IRBatchNorm2d(3)
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(norm(x), x)
    norm(x).sum().backward()
    assert norm.offset.grad is not None and norm.offset.grad.tolist() == [32, 32, 32]


def test_the_checkerboard_begins_with_one_in_the_corner() -> None:
    padded = checkerboard_padded(torch.zeros(1, 2, 2, 3), 1, 1)
    assert padded[0, 1].tolist() == [[1, -1, 1, -1, 1], [-1, 0, 0, 0, -1], [1, 0, 0, 0, 1], [-1, 1, -1, 1, -1]]
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(checkerboard_padded(x, 2, 2)[:, :, 2:-2, 2:-2], x)


class Checkerboard(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return checkerboard_padded(x, 1, 1)


def test_channels_go_through_the_padding_and_the_norm() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), IRBatchNorm2d(8), Checkerboard(), KINDS["BinaryNet"].conv(8, 4, kernel_size=3)
    )
    [width] = trace(model, torch.randn(1, 3, 6, 6)).widths
    assert {str(u.slot) for u in width.uses} == {
        "0.weight[0]", "0.bias[0]", "1.offset[0]", "1.flip[0]", "3.weight[1]",
    }  # fmt: skip


def test_a_thermometer_turns_three_channels_into_nine_signs() -> None:
    coding = ThermometerCoding(torch.tensor([[-1.0, 0.0, 1.0]] * 3))
    x = torch.tensor([-2.0, -0.5, 0.0, 5.0]).view(1, 1, 2, 2).expand(1, 3, 2, 2)
    y = coding(x)
    assert y.shape == (1, 9, 2, 2)
    assert y[0, 3:6].flatten(1).T.tolist() == [[-1, -1, -1], [1, -1, -1], [1, 1, -1], [1, 1, 1]]


def test_thresholds_split_the_values_evenly() -> None:
    images = torch.randn(50, 3, 8, 8) * torch.tensor([1.0, 5.0, 0.1]).view(1, 3, 1, 1)
    shares = (thermometer(images)(images) > 0).float().mean((0, 2, 3)).view(3, 3)
    torch.testing.assert_close(shares, torch.tensor([[0.75, 0.5, 0.25]] * 3), atol=0.01, rtol=0)


# -- MicroNet


def test_another_challenge_is_refused() -> None:
    with pytest.raises(UsageError, match=r"of the MicroNet challenge 'cifar10', did you mean 'cifar100'\?"):
        micronet.find_baseline("cifar10")


def test_the_worked_example_of_the_challenge() -> None:
    # ImageNet, 3 million parameters and 500 million operations
    assert micronet.MicroNet(3e6, 250e6, 250e6).score("imagenet") == pytest.approx(0.862, abs=5e-4)


def test_operations_of_a_real_network_by_hand() -> None:
    conv = nn.Conv2d(3, 4, 3, bias=False)
    model = nn.Sequential(conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    found = micronet.measure(model, torch.zeros(2, 3, 6, 6))
    outputs = 4 * 4 * 4
    assert found.multiplications == 27 * outputs + outputs + 4 + 2 * 4
    assert found.additions == 26 * outputs + 15 * 4 + 2 * 4
    assert found.storage == 108 + 10
    assert found.uncounted == ()


class Shortcut(nn.Module):
    def __init__(self, *, functions: bool) -> None:
        super().__init__()
        self.conv, self.relu, self.average = nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        self.functions = functions

    def forward(self, x):
        if self.functions:
            x = x + F.conv2d(F.relu(x), self.conv.weight, self.conv.bias, padding=1)
            return F.softmax(F.adaptive_avg_pool2d(x, 1).flatten(1), 1)
        return F.softmax(self.average(x + self.conv(self.relu(x))).flatten(1), 1)


@pytest.mark.parametrize("functions", [False, True])
def test_functions_count_as_layers_do_and_those_without_a_rule_are_named(functions: bool) -> None:
    found = micronet.measure(Shortcut(functions=functions), torch.zeros(2, 4, 6, 6))
    places = 4 * 36
    assert found.multiplications == places + 36 * places + 4
    assert found.additions == 36 * places + places + 35 * 4
    assert found.uncounted == ("softmax in Shortcut",)


def test_operations_of_a_binary_network_by_hand() -> None:
    model = nn.Sequential(KINDS["BinaryNet"].conv(4, 8, kernel_size=1, bias=False), nn.BatchNorm2d(8), nn.Softplus())
    found = micronet.measure(model, torch.zeros(1, 4, 2, 2))
    assert found.multiplications == 4 * 32 / 32  # changes of sign
    assert found.additions == 3 * 32  # the accumulator is not quantized
    assert found.storage == 32 / 32 + 2 * 8  # signs; a scale and a shift per channel
    assert found.uncounted == ("2",)
    assert math.isclose(found.score(), found.storage / 36.5e6 + found.operations / 10.49e9)


def test_weights_of_eight_bits_with_activations_of_four_cost_eight() -> None:
    kind = KINDS["DoReFa"].with_options(weight_bits=8, activation_bits=4)
    found = micronet.measure(nn.Sequential(kind.linear(6, 5, bias=False)), torch.zeros(1, 6))
    assert found.multiplications == 30 * 8 / 32
    assert found.storage == 30 * 8 / 32
