"""Weights, optimizer state and statistics of the pruned network."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur import prune
from secateur.pruners.decorators import BlockKind, block_decorator
from secateur.pruners.dependencies import Chain
from secateur.pruners.errors import CheckpointError, DeclarationError, UsageError
from secateur.pruners.graph import ChannelGraph, Slot
from secateur.pruners.slicing import slice_model
from secateur.pruners.trace.trace import trace
from secateur.pruners.transfer import TRANSFERS, Transfer, transfer
from secateur.pruners.weight_transfer import (
    State,
    WeightTransferUnit,
    register_transfer_unit,
    slice_optimizer_state,
    slice_state,
    slice_tensor,
    transfer_unit_of,
)

X = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 6, 1),
        nn.Flatten(),
        nn.Linear(6 * 36, 3),
    )


def half(model: nn.Module) -> tuple[Any, dict[str, list[int]]]:
    graph = trace(model, X.to(next(model.parameters()).dtype))
    return graph, {w.name: list(range(0, w.size, 2)) for w in graph.widths}


def carried(name: str, model: nn.Module, batches: Any = None) -> State:
    graph = ChannelGraph((), (), {}, (), nx.Graph())
    return dict(transfer(name, Transfer(pruned=model, original=model, graph=graph, kept={}, batches=batches)).state)


# ---------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "name, message",
    [
        ("slise", "unknown transfer 'slise', did you mean 'slice'"),
        ("quux", "unknown transfer 'quux'; known are bn, heal, lstsq, slice"),
    ],
)
def test_unknown_strategies_are_refused(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TRANSFERS.find(name)


@pytest.mark.parametrize(
    "batches, message",
    [
        (None, "--transfer bn looks at images: add --data, or use --transfer slice"),
        ([], "--transfer bn got no batches"),
        ([X[:1, :, :1, :1]], "--transfer bn can't use batch 1: Expected more than 1 value per channel"),
    ],
    ids=["none", "an empty list", "a batch of one value per channel"],
)
def test_batch_norm_without_usable_data_is_refused(batches: Any, message: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    with pytest.raises(UsageError, match=message):
        carried("bn", model, batches)


def test_optimizer_state_of_other_parameters_is_refused() -> None:
    model = network()
    graph, kept = half(model)
    state = torch.optim.SGD(list(model.parameters())[:2], lr=0.1).state_dict()
    with pytest.raises(CheckpointError, match="the optimizer's state is of 2 parameters, the network has 8"):
        slice_optimizer_state(state, [n for n, _ in model.named_parameters()], graph, kept)


def test_optimizer_state_of_another_shape_is_refused() -> None:
    model = network()
    graph, kept = half(model)
    state = torch.optim.SGD(model.parameters(), lr=0.1).state_dict()
    state["state"] = {0: {"row_factors": torch.zeros(8, 1)}}
    with pytest.raises(CheckpointError, match=r"row_factors of 0.weight has shape \(8, 1\), the parameter \(8, 3"):
        slice_optimizer_state(state, [n for n, _ in model.named_parameters()], graph, kept)


class Scaled(nn.Module):
    """A convolution with a number that tells how many inputs it has."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 1)
        self.register_buffer("fan_in", torch.tensor(float(inputs)))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv1(x) / self.fan_in


class FanIn(WeightTransferUnit):
    def transfer(self, module: nn.Module, state: dict[str, Tensor], sliced: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"fan_in": torch.tensor(float(sliced["conv1.weight"].shape[1]))}


class Wrong(WeightTransferUnit):
    def __init__(self, found: dict[str, Tensor]) -> None:
        self.found = found

    def transfer(self, module: nn.Module, state: dict[str, Tensor], sliced: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.found


def scaled() -> tuple[nn.Module, type[nn.Module]]:
    cls = type("Own", (Scaled,), {})
    return nn.Sequential(nn.Conv2d(3, 8, 1), cls(8, 4), nn.Conv2d(4, 2, 1)), cls


@pytest.mark.parametrize(
    "found, message",
    [
        ({"other": torch.zeros(())}, r"Wrong gives 1.other as \(\) torch.float32, but the pruned network has no"),
        ({"fan_in": torch.zeros(3)}, r"gives 1.fan_in as \(3,\) torch.float32, but the pruned network has \(\) torch"),
        ({"fan_in": torch.zeros((), dtype=torch.int64)}, r"gives 1.fan_in as \(\) torch.int64"),
    ],
    ids=["an unknown tensor", "another shape", "another type"],
)
def test_a_unit_that_gives_the_wrong_tensors_is_refused(found: dict[str, Tensor], message: str) -> None:
    model, cls = scaled()
    register_transfer_unit(cls, Wrong(found))
    graph, kept = half(model)
    with pytest.raises(DeclarationError, match=message):
        slice_state(model.state_dict(), graph, kept, model)


def test_a_unit_of_another_kind_is_refused() -> None:
    with pytest.raises(DeclarationError, match="the transfer unit of Scaled must be a WeightTransferUnit, not int"):
        register_transfer_unit(Scaled, 3)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------- slices


def test_slices_keep_keys_order_types_and_requires_grad_and_share_nothing() -> None:
    model = network().double()
    model[3].weight.requires_grad_(False)
    graph, kept = half(model)
    state = model.state_dict(keep_vars=True)
    sliced = slice_state(state, graph, kept)
    assert list(sliced) == list(state)
    for key, value in sliced.items():
        assert value.dtype == state[key].dtype, key
        assert value.requires_grad == state[key].requires_grad, key
        assert value.data_ptr() != state[key].data_ptr(), key
    assert sliced["0.weight"].shape == (4, 3, 3, 3)
    assert torch.equal(sliced["3.weight"], state["3.weight"][::2, ::2])
    by_channel = state["5.weight"].detach().view(3, 6, 36)
    assert torch.equal(sliced["5.weight"], by_channel[:, ::2].reshape(3, -1))
    assert torch.equal(sliced["1.running_var"], state["1.running_var"][::2])
    assert sliced["1.num_batches_tracked"] == state["1.num_batches_tracked"]


def test_a_grouped_convolution_keeps_other_inputs_in_every_block_of_rows() -> None:
    weight = torch.arange(24.0).view(4, 6)  # two groups of two rows that read six inputs each
    slot = Slot("w", 1, blocks=2)
    mask = np.array([1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1], dtype=bool)
    found = slice_tensor(weight, [(slot, mask)])
    assert found.tolist() == [[0, 1], [6, 7], [16, 17], [22, 23]]
    rows = (Slot("w", 0), np.array([1, 0, 1, 0], dtype=bool))
    assert slice_tensor(weight, [rows, (slot, mask)]).tolist() == [[0, 1], [16, 17]]


def test_an_empty_plan_copies() -> None:
    model = network()
    graph, _ = half(model)
    sliced = slice_state(model.state_dict(), graph, {})
    assert all(torch.equal(v, sliced[k]) for k, v in model.state_dict().items())


def test_tied_weights_are_sliced_alike() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1))
    model[2].weight = model[1].weight
    graph, kept = half(model)
    sliced = slice_state(model.state_dict(), graph, kept)
    assert sliced["1.weight"].shape == (2, 2, 1, 1)
    assert torch.equal(sliced["1.weight"], sliced["2.weight"])


# ---------------------------------------------------------------------------------------------- optimizers


def make(kind: str, model: nn.Module) -> torch.optim.Optimizer:
    if kind == "sgd":
        return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return torch.optim.Adam([{"params": p, "lr": 0.01} for p in model.parameters()], amsgrad=True)


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    F.cross_entropy(model(X), torch.arange(4) % 3).backward()
    optimizer.step()


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_training_goes_on_with_the_sliced_optimizer_state(kind: str) -> None:
    model = network()
    optimizer = make(kind, model)
    step(model, optimizer)
    graph, kept = half(model)
    before = copy.deepcopy(optimizer.state_dict())
    names = [n for n, _ in model.named_parameters()]
    state = slice_optimizer_state(optimizer.state_dict(), names, graph, kept)
    pruned = slice_model(model, graph, kept, X).model
    successor = make(kind, pruned)
    successor.load_state_dict(state)
    entry = "momentum_buffer" if kind == "sgd" else "exp_avg_sq"
    for number, (name, p) in enumerate(pruned.named_parameters()):
        assert successor.state[p][entry].shape == p.shape, name
        full = slice_state({name: before["state"][number][entry]}, graph, kept)[name]
        assert torch.equal(successor.state[p][entry], full), name
        if kind == "adam":
            assert successor.state[p]["step"] == 1
    step(pruned, successor)
    assert torch.equal(before["state"][0][entry], optimizer.state_dict()["state"][0][entry])


# ---------------------------------------------------------------------------------------------- classes of their own


def test_a_class_with_its_own_unit() -> None:
    model, cls = scaled()
    graph, kept = half(model)
    assert slice_state(model.state_dict(), graph, kept, model)["1.fan_in"] == 8
    register_transfer_unit(cls, FanIn())
    sliced = slice_state(model.state_dict(), graph, kept, model)
    assert sliced["1.fan_in"] == 4
    assert list(sliced) == list(model.state_dict())


def test_units_belong_to_classes() -> None:
    kind = BlockKind("scaled", Chain(), transfer=FanIn())
    first, second = (type("Same", (Scaled,), {}) for _ in range(2))
    block_decorator(kind)(lType="scaled", convs=["conv1"])(first)
    assert isinstance(transfer_unit_of(first), FanIn)
    assert transfer_unit_of(second) is None
    assert transfer_unit_of(type("Heir", (first,), {})) is None


# ---------------------------------------------------------------------------------------------- strategies


def test_the_strategies_have_names() -> None:
    assert list(TRANSFERS.names()) == ["bn", "heal", "lstsq", "slice"]


def test_slice_gives_the_weights_as_they_are() -> None:
    model = network()
    state = carried("slice", model)
    assert list(state) == list(model.state_dict())
    assert all(torch.equal(v, state[k]) and v.data_ptr() != state[k].data_ptr() for k, v in model.state_dict().items())


def test_bn_averages_the_batches_means_and_variances() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Conv2d(3, 2, 1)).train()
    batches = [X, X * 3 + 1]
    before = copy.deepcopy(model.state_dict())
    state = carried("bn", model, [(b, torch.zeros(4)) for b in batches])
    means = torch.stack([b.mean((0, 2, 3)) for b in batches])
    variances = torch.stack([b.var((0, 2, 3)) for b in batches])
    assert torch.allclose(state["0.running_mean"], means.mean(0), atol=1e-6)
    assert torch.allclose(state["0.running_var"], variances.mean(0), atol=1e-5)
    assert state["0.num_batches_tracked"] == 0
    assert torch.equal(state["2.weight"], before["2.weight"])
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(m.training for m in model.modules())
    assert model[0].momentum == 0.1


def test_bn_repairs_statistics_after_pruning() -> None:
    model = network()
    for _ in range(30):
        model.train()(X)
    graph, kept = half(model)
    pruned = slice_model(model, graph, kept, X).model
    with torch.no_grad():
        pruned[0].weight.mul_(3)
    state = carried("bn", pruned, [X])
    pruned.load_state_dict(state)
    normed = pruned.eval()[:2](X)
    assert normed.mean((0, 2, 3)).abs().max() < 1e-4
    assert (normed.var((0, 2, 3)) - 1).abs().max() < 1e-2


def test_bn_leaves_norms_without_statistics_and_networks_without_norms() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False), nn.Conv2d(4, 2, 1))
    state = carried("bn", model, [X])
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


# -- in one call


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 6, 3), nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return self.head(x.relu().mean((2, 3)))


def test_prune_refuses_bn_without_batches_before_it_publishes(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="looks at images: add batches="):
        prune(Small(), X, ratio=0.5, transfer="bn", output=tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_prune_ships_the_statistics_that_bn_found(tmp_path: Path) -> None:
    torch.manual_seed(0)
    pairs = [(X, torch.zeros(len(X), dtype=torch.long))]
    bundle = prune(Small(), X, ratio=0.5, transfer="bn", batches=iter(pairs), output=tmp_path / "bundle")
    assert bundle.plan.provenance["transfer"] == "bn"
    found = bundle.model.bn1.running_mean
    assert torch.allclose(found, bundle.model.conv1(X).mean((0, 2, 3)), atol=1e-5)
