"""Sparse training: what is refused, what is pushed and how hard, and that channels which must stay are left alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from training_runs import SHORT, InterruptAt, same_state

from secateur.pruners.errors import CheckpointError, Interrupted, UsageError
from secateur.pruners.metrics import Sparsity
from secateur.pruners.trace import trace
from secateur.training.data import Data, load_data
from secateur.training.fit import fit

X = torch.zeros(1, 1, 8, 8)


class Net(nn.Module):
    """A width of 6, another of 4 that is added to the images' channel and stays, and ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 4, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(4)
        self.fc = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).mean(1, keepdim=True)  # a mean over channels holds them
        return self.fc(nn.functional.max_pool2d(y, 2).flatten(1))


def net(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    model = Net()
    with torch.no_grad():
        for norm in (model.bn1, model.bn2):
            norm.weight.copy_(torch.randn(len(norm.weight)))
    return model


def sparsity(model: nn.Module, kind: str, strength: float = 0.5) -> Sparsity:
    return Sparsity.of(model, trace(model, X), kind, strength)


@pytest.fixture(scope="module")
def digits() -> Data:
    return load_data("digits")


@pytest.mark.parametrize("strength", [0.0, -1.0, float("inf"), float("nan")])
def test_a_strength_that_is_no_number_above_0_is_refused(strength: float) -> None:
    with pytest.raises(UsageError, match=r"--sparsity \S+: must be a number above 0"):
        sparsity(net(), "bn", strength)


def test_a_network_without_batch_norms_has_no_scales_to_push() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    with pytest.raises(UsageError, match="the channels that may go have no scales of batch norms"):
        sparsity(model, "bn")
    assert sparsity(model, "group").sizes(model)["0"].shape == (4,)


@pytest.mark.parametrize(("kind", "lacking"), [("bn", "scales of batch norms"), ("group", "weights that are trained")])
def test_what_is_not_trained_is_not_pushed(kind: str, lacking: str) -> None:
    model = net().requires_grad_(False)
    with pytest.raises(UsageError, match=f"have no {lacking}"):
        sparsity(model, kind)


def test_scales_are_pushed_by_the_sign_of_each() -> None:
    model = net()
    found = sparsity(model, "bn")(model, 0.25)
    found.backward()
    assert found.item() == pytest.approx(0.5 * 0.25 * model.bn1.weight.abs().sum().item())
    assert torch.equal(model.bn1.weight.grad, 0.125 * model.bn1.weight.sign())
    assert {n for n, p in model.named_parameters() if p.grad is not None} == {"bn1.weight"}


def test_groups_are_pushed_as_computed_by_hand() -> None:
    model = net()
    found = sparsity(model, "group")(model, 1.0)
    found.backward()
    with torch.no_grad():
        parts = [model.conv1.weight, model.bn1.weight[:, None], model.conv2.weight.transpose(0, 1)]
        rows = torch.cat([p.flatten(1) for p in parts], 1)  # a group in each
        sizes = rows.norm(dim=1) * rows.shape[1] ** 0.5
        pushes = 2 ** (4 * (sizes.max() - sizes) / (sizes.max() - sizes.min()))
        assert found.item() == pytest.approx(0.5 * (pushes * sizes).sum().item(), rel=1e-5)
        wanted = 0.5 * pushes[:, None] * rows / rows.norm(dim=1, keepdim=True) * rows.shape[1] ** 0.5
        got = torch.cat([model.conv1.weight.grad.flatten(1), model.bn1.weight.grad[:, None]], 1)
        torch.testing.assert_close(got, wanted[:, :10])
        torch.testing.assert_close(model.conv2.weight.grad.transpose(0, 1).flatten(1), wanted[:, 10:])
    held = {"bn1.bias", "conv2.bias", "bn2.weight", "bn2.bias", "fc.weight", "fc.bias"}
    assert {n for n, p in model.named_parameters() if p.grad is None} == held


def test_an_empty_group_gives_no_nan() -> None:
    model = net()
    with torch.no_grad():
        model.conv1.weight[2], model.bn1.weight[2], model.conv2.weight[:, 2] = 0, 0, 0
    sparsity(model, "group")(model, 1.0).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_convolutions_in_groups_and_depthwise_ones_are_whole_groups() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 6, 1, groups=2),
        nn.Flatten(), nn.Linear(96, 10),
    )  # fmt: skip
    found = sparsity(model, "group").sizes(model)
    with torch.no_grad():
        reads = model[3].weight.view(2, 3, 4).transpose(0, 1).flatten(1).t()  # (8 channels, 3 that read each)
        rows = torch.cat([model[0].weight.flatten(1), model[1].weight[:, None], model[2].weight.flatten(1), reads], 1)
        torch.testing.assert_close(found["0"], rows.norm(dim=1) * rows.shape[1] ** 0.5)


@pytest.mark.parametrize(("kind", "strength", "share"), [("bn", 0.5, 0.5), ("group", 0.008, 0.75)])
def test_only_channels_that_may_go_become_small(kind: str, strength: float, share: float, digits: Data) -> None:
    plain, pushed = net(), net()
    before = plain.bn2.weight.abs().mean().item()
    fit(plain, digits, SHORT, 4)
    penalty = sparsity(pushed, kind, strength)
    fit(pushed, digits, SHORT, 4, penalty=penalty)
    free, small = (penalty.sizes(model)["conv1"].sum().item() for model in (plain, pushed))
    assert small < share * free
    assert pushed.bn2.weight.abs().mean().item() > 0.8 * before


def test_a_tiny_strength_trains_as_without(digits: Data) -> None:
    plain, pushed = net(), net()
    fit(plain, digits, SHORT, 1, penalty=lambda model, done: torch.zeros(()))
    fit(pushed, digits, SHORT, 1, penalty=sparsity(pushed, "group", 1e-30))
    assert same_state(plain, pushed)


def test_the_last_epoch_stays_however_it_does(digits: Data) -> None:
    model = net()
    assert fit(model, digits, SHORT, 3, penalty=sparsity(model, "bn", 10.0)).best.number == 3


def test_a_resumed_run_is_the_same_run(digits: Data, tmp_path) -> None:
    path, whole, torn = tmp_path / "run.pt", net(), net()
    fit(whole, digits, SHORT, 2, penalty=sparsity(whole, "group", 1e-3))
    with pytest.raises(Interrupted):
        fit(
            torn, digits, SHORT, 2, penalty=sparsity(torn, "group", 1e-3), checkpoint_path=path, progress=InterruptAt(7)
        )
    again = net(1)
    with pytest.raises(CheckpointError, match=r"its penalty is .*0.001.*, now it is .*0.002"):
        fit(again, digits, SHORT, 2, penalty=sparsity(again, "group", 2e-3), checkpoint_path=path, resume=True)
    fit(again, digits, SHORT, 2, penalty=sparsity(again, "group", 1e-3), checkpoint_path=path, resume=True)
    assert same_state(whole, again)
