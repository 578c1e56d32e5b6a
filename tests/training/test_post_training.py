"""Quantization after training: what is overwritten, what stays, what can't be had, accuracy and size of each form."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from secateur.pruners.errors import OutOfMemory, UsageError
from secateur.training.binarization import Form, Half, enough_bits, forms, measured, weights_of
from secateur.training.binarization.comparison import packed_size
from secateur.training.binarization.kinds import KINDS
from secateur.training.binarization.levels import best_exponent, best_exponents, fixed_point, sqnr
from secateur.training.binarization.post_training import to_fixed_point, to_int8


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


@pytest.mark.parametrize("quantize", [lambda n: to_fixed_point(n, 4), Half, lambda n: to_int8(n, [X])])
def test_weights_that_are_no_numbers_are_named(network: nn.Module, quantize: Callable[[nn.Module], Any]) -> None:
    network.bn.bias.data[0] = math.nan
    with pytest.raises(UsageError, match=r"can't be quantized: bn\.bias holds NaN or infinite values; train it again"):
        quantize(network)


def test_a_number_too_large_for_16_bits_is_named(network: nn.Module) -> None:
    network.bn.running_var[1] = 1e6
    with pytest.raises(UsageError, match=r"^bn\.running_var holds numbers too large for 16 bits"):
        Half(network)


def test_a_network_without_layers_has_nothing_to_overwrite() -> None:
    with pytest.raises(UsageError, match="this network has no layer with real weights to quantize"):
        to_fixed_point(nn.Sequential(nn.BatchNorm2d(3)), 8)


def test_layers_of_few_bits_have_no_8_bit_form() -> None:
    network = nn.Sequential(nn.Flatten(), KINDS["BinaryNet"].linear(36, 3))
    with pytest.raises(UsageError, match="layers that quantize their weights themselves have no 8-bit form: 1"):
        to_int8(network, [X])


def test_a_torch_without_fx_quantization_is_named(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def gone(name: str, *more: Any, **others: Any) -> Any:
        if name.startswith("torch.ao.quantization"):
            raise ImportError(name)
        return real(name, *more, **others)

    monkeypatch.setattr(builtins, "__import__", gone)
    with pytest.raises(UsageError, match="has no FX quantization any more, it moved to the package torchao"):
        to_int8(network, [X])


class Undecided(Small):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.sum() > 0 else -x)


class Stubborn(Small):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) @ torch.eye(3)


def test_what_torch_cannot_trace_gives_a_row_that_says_why() -> None:
    row = measured(Form("int8"), Undecided().eval(), lambda n: 1.0, [X])
    assert row.accuracy is None
    assert "TraceError: symbolically traced variables cannot be used as inputs to control flow" in row.reason
    assert row.name == "int8 static"


def test_code_that_insists_on_32_bits_gives_a_row_that_says_why() -> None:
    row = measured(Form("half"), Stubborn().eval(), lambda n: float(n(X).sum()))
    assert row.accuracy is None
    assert row.reason.startswith("RuntimeError: ")


def test_what_goes_wrong_in_the_network_itself_is_no_row(network: nn.Module) -> None:
    with pytest.raises(ZeroDivisionError):
        measured(Form("float32"), network, lambda n: 1 / 0)


def test_a_machine_that_is_too_small_is_no_row(network: nn.Module) -> None:
    def evaluate(network: nn.Module) -> float:
        raise OutOfMemory("out of memory")

    with pytest.raises(OutOfMemory):
        measured(Form("half"), network, evaluate)


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
    assert found is not None
    assert same(found.network) >= 0.98
    assert found.bits == 2 or same(to_fixed_point(network, found.bits - 1).network) < 0.98


def test_the_table_has_a_row_for_every_quantization(network: nn.Module) -> None:
    rows = [measured(form, network, agreement(network), [X]) for form in forms((8,))]
    assert [r.name for r in rows] == [
        "float32", "half", "fixed point, 8 bits per net", "fixed point, 8 bits per layer",
        "fixed point, 8 bits per kernel", "int8 static",
    ]  # fmt: skip
    assert rows[0].accuracy == 1.0
    assert all(r.accuracy is not None and r.accuracy > 0.9 for r in rows)
    weights, every = 4 * 9 + 64 * 3, sum(t.numel() for t in network.state_dict().values())
    assert rows[0].size_bytes == 4 * (every - 1) + 8  # the batch norm counts batches in 64 bits
    assert rows[1].size_bytes == 2 * (every - 1) + 8
    assert [r.size_bytes for r in rows[2:5]] == [rows[0].size_bytes - 3 * weights + n for n in (1, 2, 4 + 3)]
    assert Half(network)(X).dtype == torch.float32


def test_too_great_a_wish_finds_no_bits(network: nn.Module) -> None:
    accuracies = iter([1.0] + [0.0] * 15)
    assert enough_bits(network, lambda n: next(accuracies), 0.5) is None
    assert enough_bits(nn.Sequential(nn.ReLU()), lambda n: 1.0, 0.5) is None


def test_every_row_has_the_exponent_it_would_have_alone() -> None:
    scale = torch.tensor([1.0, 1e-3, 0.0, 700.0, 1e-40]).unsqueeze(1)
    rows = torch.randn(5, 50, generator=torch.Generator().manual_seed(1)) * scale
    assert best_exponents(rows, 4) == [best_exponent(row, 4) for row in rows]
    assert best_exponents(rows, 4)[2] == 0


def test_of_equally_good_exponents_the_smallest_is_taken() -> None:
    assert best_exponent(torch.tensor([1.0, -1.0, 0.5]), 4) == -2  # exact with -1, too


def test_layers_of_zeros_stay_zero(network: nn.Module) -> None:
    network.conv.weight.data.zero_()
    for scope in ("net", "layer", "kernel"):
        assert not to_fixed_point(network, 4, scope).network.conv.weight.any()
    network.fc.weight.data.zero_()
    assert to_fixed_point(network, 4).sqnr == math.inf


def test_training_mode_stays(network: nn.Module) -> None:
    assert to_fixed_point(network.train(), 4).network.training
    assert not to_int8(network, [X]).network.training
    assert network.training


@pytest.mark.parametrize("groups", [1, 2])
def test_a_kernel_of_a_transposed_convolution_is_what_makes_one_output(groups: int) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=groups))
    network[0].weight.data[:, 1] *= 1000  # the second output of each group
    found = to_fixed_point(network, 4, "kernel")
    exponents = found.exponents["0.weight"]
    outputs = [1] if groups == 1 else [1, 4]
    assert len(exponents) == 6
    assert {i for i, e in enumerate(exponents) if e > 0} == set(outputs)
    x = torch.randn(1, 4, 5, 5)
    alone = network[0].weight.data[: 4 // groups, 0]
    torch.testing.assert_close(found.network[0].weight[: 4 // groups, 0], fixed_point(alone, 4, exponents[0]))
    assert sqnr(network(x), found.network(x)) > 10


def test_a_kernel_of_a_grouped_convolution_is_a_row() -> None:
    network = nn.Sequential(nn.Conv2d(4, 6, 3, groups=2))
    found = to_fixed_point(network, 4, "kernel")
    assert found.exponents["0.weight"] == tuple(best_exponent(row, 4) for row in network[0].weight.data)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(7, 5)
        self.out = nn.Linear(5, 7)
        self.out.weight = self.words.weight
        self.again = self.out

    def forward(self, x: Tensor) -> Tensor:
        return self.again(self.words(x))


def test_shared_weights_are_quantized_once_and_stay_shared() -> None:
    network = Tied()
    found = to_fixed_point(network, 3, "kernel")
    assert found.network.out.weight is found.network.words.weight
    assert set(found.exponents) == {"words.weight", "out.weight", "again.weight"}
    assert len(set(found.exponents.values())) == 1
    assert found.scales == 7
    assert packed_size(network) == 4 * (35 + 7)
    assert found.sqnr == pytest.approx(sqnr(network.out.weight.data, found.network.out.weight.data))


def test_attention_projections_are_weights() -> None:
    found = weights_of(nn.MultiheadAttention(4, 2))
    assert set(found.tensors) == {"in_proj_weight", "out_proj.weight"}
    assert not found.computed


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(1, 6, 4))
        self.normed = parametrizations.weight_norm(nn.Linear(4, 4))
        self.few = KINDS["BinaryNet"].linear(4, 4)
        self.real = KINDS["SemiReal"].linear(4, 4)
        self.norm = nn.LayerNorm(4)


def test_what_stays_is_told() -> None:
    network = Mixed()
    found = weights_of(network)
    assert set(found.tensors) == {"real.weight"}
    assert (found.few_bits, found.computed, found.others) == (("few",), ("normed",), ("position",))
    assert found.own == (type(network.real).__name__,)
    made = to_fixed_point(network, 2).network.state_dict()
    assert {k for k, v in network.state_dict().items() if not torch.equal(v, made[k])} == {"real.weight"}


def test_layers_of_few_bits_count_with_their_own() -> None:
    network = nn.Sequential(KINDS["BinaryNet"].linear(16, 8, bias=False), nn.Linear(8, 2, bias=False))
    assert packed_size(network) == 16 + 4 * 16
    assert Form("fixed", 4, "net").of(network).size_bytes == 16 + 8 + 1


class Viewing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 4, 3), nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.fc(x.view(x.size(0), -1))


def test_a_view_of_a_layer_of_integers_keeps_its_order() -> None:
    torch.manual_seed(0)
    network = Viewing().eval()
    made = to_int8(network, [X])
    assert sqnr(network(X), made(X)) > 25
