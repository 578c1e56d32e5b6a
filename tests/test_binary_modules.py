"""The norm that only shifts, padding with signs, coded inputs; quantization after training; the MicroNet score."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruners.errors import UsageError
from pruners.tracing import trace
from training.binarization import micronet
from training.binarization.kinds import KINDS
from training.binarization.levels import fixed_point, sqnr
from training.binarization.modules import CheckerboardPad2d, IRBatchNorm2d, ThermometerCoding, fold, thermometer
from training.binarization.post_training import Half, enough_bits, rendered, table, to_fixed_point, to_int8
from training.binarization.quantizers import sign


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
    padded = CheckerboardPad2d(1)(torch.zeros(1, 2, 2, 3))
    assert padded[0, 1].tolist() == [[1, -1, 1, -1, 1], [-1, 0, 0, 0, -1], [1, 0, 0, 0, 1], [-1, 1, -1, 1, -1]]
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(CheckerboardPad2d(2)(x)[:, :, 2:-2, 2:-2], x)


def test_channels_go_through_the_padding_and_the_norm() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), IRBatchNorm2d(8), CheckerboardPad2d(1), KINDS["BinaryNet"].conv(8, 4, kernel_size=3)
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


# -- after training


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4 * 16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.bn(self.conv(x))).flatten(1))


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return Small().eval()


X = torch.randn(64, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def agreement(network: nn.Module) -> Callable[[nn.Module], float]:
    labels = network(X).argmax(1)
    return lambda other: (other(X).argmax(1) == labels).float().mean().item()


def test_one_bit_is_no_fixed_point(network: nn.Module) -> None:
    with pytest.raises(UsageError, match="fixed point has 2 to 32 bits, not 1"):
        to_fixed_point(network, 1)


def test_8_bit_integers_need_images(network: nn.Module) -> None:
    with pytest.raises(UsageError, match="looks at images: give at least one batch"):
        to_int8(network, [])


def test_finer_scopes_lose_less(network: nn.Module) -> None:
    network.conv.weight.data[0] *= 100  # one kernel of another size
    found = {scope: to_fixed_point(network, 4, scope) for scope in ("net", "layer", "kernel")}
    assert found["net"].sqnr <= found["layer"].sqnr <= found["kernel"].sqnr
    assert {scope: len(f.exponents["conv.weight"]) for scope, f in found.items()} == {"net": 1, "layer": 1, "kernel": 4}
    assert found["net"].exponents["conv.weight"] == found["net"].exponents["fc.weight"]


def test_fixed_point_overwrites_weights_only(network: nn.Module) -> None:
    before = {k: v.clone() for k, v in network.state_dict().items()}
    found = to_fixed_point(network, 4)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    changed = {k for k, v in found.network.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"conv.weight", "fc.weight"}
    [exponent] = found.exponents["fc.weight"]
    expected = fixed_point(before["fc.weight"], 4, exponent)
    assert torch.equal(found.network.fc.weight, expected)
    assert len(found.network.fc.weight.unique()) <= 16
    whole = [
        torch.cat([s[k].flatten() for k in ("conv.weight", "fc.weight")]) for s in (before, found.network.state_dict())
    ]
    assert found.sqnr == pytest.approx(sqnr(*whole))


def test_bits_are_raised_until_the_accuracy_holds(network: nn.Module) -> None:
    same = agreement(network)
    found = enough_bits(network, same, 0.02)
    assert same(found.network) >= 0.98
    assert found.bits == 2 or same(to_fixed_point(network, found.bits - 1).network) < 0.98


def test_the_table_has_a_row_for_every_quantization(network: nn.Module) -> None:
    rows = table(network, agreement(network), [X], bits=(8,))
    assert [r.name for r in rows] == [
        "float32", "half", "fixed point, 8 bits per net", "fixed point, 8 bits per layer",
        "fixed point, 8 bits per kernel", "int8 static",
    ]  # fmt: skip
    assert rows[0].accuracy == 1.0
    assert all(r.accuracy > 0.9 for r in rows)
    assert rows[0].size_bytes == 4 * sum(p.numel() for p in network.parameters())
    assert rows[0].size_bytes > rows[1].size_bytes
    assert rendered(rows).splitlines()[2].startswith("| float32 | 100.00% |")
    assert Half(network)(X).dtype == torch.float32


# -- MicroNet


def test_another_challenge_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no baseline for 'cifar10': did you mean cifar100?"):
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
    half = found.in_half_precision()
    assert (half.storage, half.multiplications, half.additions) == (59, found.multiplications / 2, found.additions)
    assert found.uncounted == ()


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
