"""Pruning in a user's own loop: what is refused and leaves everything as it was, that training goes on exactly as it
would in a network built so, and that what is published is what was trained."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from training_runs import same_state

from secateur import Entry, prune, prune_step, publish
from secateur.models.cifar.mobilenetv2 import mobilenetv2
from secateur.models.cifar.resnet import resnet20
from secateur.pruners.errors import BudgetError, NotPrunableError, PlanError, UsageError
from secateur.pruners.plan import PruningPlan

X = torch.zeros(1, 3, 8, 8)
IMAGES = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(6) % 4


class Net(nn.Module):
    """Two widths; with a batch norm, whose statistics are cut as well."""

    def __init__(self, first: int = 8, second: int = 6) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, first, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(first)
        self.conv2 = nn.Conv2d(first, second, 3, padding=1, bias=False)
        self.fc = nn.Linear(second * 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu()
        return self.fc(nn.functional.adaptive_avg_pool2d(self.conv2(x).relu(), 2).flatten(1))


class Written(nn.Module):
    """A number in its code counts channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.fc = nn.Linear(8 * 36, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).reshape(-1, 8 * 36))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(12, 4, batch_first=True)
        self.fc = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc((x + self.attention(x, x, x)[0]).mean(1))


def net(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net()


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)


def adam(model: nn.Module) -> torch.optim.Optimizer:
    biases = [p for n, p in model.named_parameters() if n.endswith("bias")]
    others = [p for n, p in model.named_parameters() if not n.endswith("bias")]
    return torch.optim.AdamW([{"params": biases, "weight_decay": 0.0}, {"params": others}], lr=0.01, amsgrad=True)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3) -> None:
    model.train()
    for _ in range(steps):
        loss = nn.functional.cross_entropy(model(IMAGES), LABELS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


# -- refusals


@pytest.mark.parametrize("budgets", [{}, {"ratio": 0.5, "macs": 0.5}, {"ratio": 0.5, "plan": PruningPlan({})}])
def test_one_budget_is_needed(budgets: dict[str, object]) -> None:
    model = net()
    with pytest.raises(BudgetError, match="give exactly one of ratio, macs, params and plan"):
        prune_step(model, sgd(model), X, **budgets)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrap", "why"),
    [
        pytest.param(nn.DataParallel, "taken out of DataParallel", id="in parallel"),
        pytest.param(torch.optim.swa_utils.AveragedModel, "taken out of AveragedModel", id="averaged"),
        pytest.param(lambda m: (m.compile(), m)[1], "it is compiled", id="compiled in place"),
        pytest.param(torch.compile, "taken out of torch.compile", id="compiled"),
        pytest.param(lambda m: m.bfloat16(), "it is compiled, or its weights have 16 bits", id="of 16 bits"),
        pytest.param(
            lambda m: nn.Sequential(nn.utils.parametrizations.weight_norm(m.conv1), m.bn1), "weight norm", id="a norm"
        ),
    ],
)
def test_a_network_that_is_not_bare_is_refused(wrap: Callable[[nn.Module], nn.Module], why: str) -> None:
    model = wrap(net())
    with pytest.raises(UsageError, match=f"this one is not bare \\({why}.*give the network inside"):
        prune_step(model, sgd(model), X, ratio=0.5)


def test_an_optimizer_of_another_network_is_refused() -> None:
    with pytest.raises(UsageError, match=r"the optimizer doesn't hold the network's conv1.weight and 6 more"):
        prune_step(net(), sgd(net()), X, ratio=0.5)
    with pytest.raises(UsageError, match=r"optimizer must be one of torch.optim, not Net"):
        prune_step(net(), net(), X, ratio=0.5)  # type: ignore[arg-type]


def test_a_number_in_the_code_is_refused_with_its_line() -> None:
    model = Written()
    with pytest.raises(NotPrunableError, match=r"test_prune_step.py:\d+: a number in the code counts channels"):
        prune_step(model, sgd(model), X, ratio=0.5)


def test_a_layer_that_would_become_another_is_refused_by_name() -> None:
    model = Attention()
    with pytest.raises(NotPrunableError, match=r'attention: a MultiheadAttention .*skip=\["attention"\]'):
        prune_step(model, sgd(model), torch.zeros(1, 5, 12), ratio=0.5)


def test_a_refused_step_changes_nothing() -> None:
    model = net()
    optimizer = torch.optim.LBFGS(model.parameters())
    optimizer.state[model.conv1.weight] = {"history": [torch.zeros(8)]}
    before, parameters = copy.deepcopy(model), list(model.parameters())
    with pytest.raises(UsageError, match=r"LBFGS can't go on with fewer channels: .*history .* is a list"):
        prune_step(model, optimizer, X, ratio=0.5)
    assert same_state(model, before)
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))


def test_where_nothing_can_go_it_is_said() -> None:
    model = net()
    optimizer = sgd(model)
    with pytest.raises(NotPrunableError, match="nothing goes in this step"):
        prune_step(model, optimizer, X, ratio=0.01)
    for _ in range(2):  # to the two channels of a width that always stay
        prune_step(model, optimizer, X, ratio=0.5, skip=["conv2"])
    with pytest.raises(NotPrunableError, match="nothing"):
        prune_step(model, optimizer, X, ratio=0.5, skip=["conv2"])


def test_publish_is_for_networks_that_were_made_narrower() -> None:
    with pytest.raises(UsageError, match="publish is for a network that prune_step made narrower"):
        publish(net())


def test_a_network_that_was_changed_otherwise_is_not_published() -> None:
    model = net()
    prune_step(model, sgd(model), X, ratio=0.5)
    model.fc = nn.Linear(12, 5)
    with pytest.raises(UsageError, match=r"changed otherwise since its last prune_step: fc.weight"):
        publish(model)


def test_a_plan_is_for_the_first_step_of_the_same_network() -> None:
    model = net()
    plan = prune_step(model, sgd(model), X, ratio=0.5).plan
    with pytest.raises(UsageError, match="plan= is for the first step"):
        prune_step(model, sgd(model), X, plan=plan)
    other = resnet20()
    with pytest.raises(PlanError):
        prune_step(other, sgd(other), torch.zeros(1, 3, 32, 32), plan=plan)


# -- training goes on


@pytest.mark.parametrize("optimizer_of", [sgd, adam])
def test_training_goes_on_as_in_a_network_built_so(
    optimizer_of: Callable[[nn.Module], torch.optim.Optimizer],
) -> None:
    model = net()
    optimizer = optimizer_of(model)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    train(model, optimizer)
    scheduler.step()
    before, saved = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    names = {id(p): n for n, p in model.named_parameters()}
    order = [names[id(p)] for group in optimizer.param_groups for p in group["params"]]
    kept = prune_step(model, optimizer, X, ratio=0.5).plan.kept
    first, second = (list(kept[name]) for name in ("conv1", "conv2"))

    def cut(name: str, tensor: Tensor) -> Tensor:
        if tensor.ndim == 0:
            return tensor
        if name.startswith(("conv1", "bn1")):
            return tensor[first]
        if name.startswith("conv2"):
            return tensor[second][:, first]
        return tensor.view(4, 6, 4)[:, second].flatten(1) if name == "fc.weight" else tensor

    oracle = Net(len(first), len(second))
    oracle.load_state_dict({n: cut(n, t) for n, t in before.items()})
    state = {i: {k: cut(order[i], v) for k, v in entries.items()} for i, entries in saved["state"].items()}
    theirs = optimizer_of(oracle)
    theirs.load_state_dict({**saved, "state": state})
    assert same_state(model, oracle)
    found = optimizer.state_dict()
    assert found["param_groups"] == saved["param_groups"]
    for number, entries in state.items():
        assert all(torch.equal(value, found["state"][number][key]) for key, value in entries.items())
    train(model, optimizer)
    train(oracle, theirs)
    assert same_state(model, oracle)
    scheduler.step()
    assert {group["lr"] for group in optimizer.param_groups} == {saved["param_groups"][0]["lr"] / 2}
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == {id(p) for p in model.parameters()}
    assert len(optimizer.state) == len(list(model.parameters()))


def test_a_loss_that_is_still_there_does_no_harm() -> None:
    model = net()
    optimizer = sgd(model)
    loss = nn.functional.cross_entropy(model(IMAGES), LABELS)
    loss.backward()
    optimizer.step()
    prune_step(model, optimizer, X, ratio=0.5)
    train(model, optimizer)
    assert loss.isfinite()


def test_modes_and_what_is_frozen_stay() -> None:
    model = net()
    model.conv1.requires_grad_(False)
    model.conv1.weight.no_decay = True  # type: ignore[attr-defined]
    model.bn1.eval()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    draws = torch.get_rng_state()
    step = prune_step(model, optimizer, X, macs=0.5)
    assert torch.equal(draws, torch.get_rng_state())
    assert step.macs[1] <= 0.5 * step.macs[0] and step.params[1] < step.params[0]
    assert not model.conv1.weight.requires_grad and model.conv1.weight.no_decay  # type: ignore[attr-defined]
    assert model.training and not model.bn1.training
    assert model(IMAGES).shape == (6, 4)
    assert model.conv1.out_channels == len(model.conv1.weight) == model.bn1.num_features == model.conv2.in_channels


# -- what is published


@pytest.mark.parametrize("make", [resnet20, mobilenetv2], ids=["shortcuts", "depthwise"])
def test_what_is_published_is_what_was_trained(make: Callable[[], nn.Module], tmp_path) -> None:
    torch.manual_seed(0)
    model = make()
    images, labels = torch.randn(4, 3, 32, 32), torch.arange(4)
    optimizer = sgd(model)
    example = torch.zeros(1, 3, 32, 32)
    for budget in ({"ratio": 0.25}, {"macs": 0.8, "search": "global"}):
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        step = prune_step(model, optimizer, example, **budget)
    nn.functional.cross_entropy(model(images), labels).backward()
    optimizer.step()
    before = copy.deepcopy(model.state_dict())
    bundle = publish(model, tmp_path / "out")
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))
    assert bundle.summary["verified"] is True
    assert bundle.plan.widths == step.plan.widths and bundle.plan.provenance["steps"] == 2
    assert bundle.summary["macs"]["after"] == step.macs[1]
    assert same_state(bundle.model, model)
    with torch.no_grad():
        torch.testing.assert_close(bundle.model.eval()(images), model.eval()(images))


def test_a_new_process_comes_back_to_the_widths_by_the_plan() -> None:
    model = net()
    optimizer = sgd(model)
    for _ in range(2):
        train(model, optimizer, 1)
        plan = prune_step(model, optimizer, X, ratio=0.4).plan
    train(model, optimizer, 1)
    again = net(1)
    theirs = sgd(again)
    prune_step(again, theirs, X, plan=PruningPlan.from_json(plan.to_json()))
    again.load_state_dict(model.state_dict())
    theirs.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # as from a file: torch shares tensors otherwise
    train(model, optimizer)
    train(again, theirs)
    assert same_state(again, model)
    assert np.prod([len(k) for k in plan.kept.values()]) < 8 * 6


def test_prune_goes_on_from_there_with_the_arguments_that_steps_were_told(caplog) -> None:
    class Arguments(Net):
        def __init__(self, width: int) -> None:
            super().__init__(width)

    torch.manual_seed(0)
    for entry in (Entry(Arguments, {"width": 8}), None):
        model = Arguments(8)
        prune_step(model, sgd(model), X, ratio=0.25, entry=entry)
        bundle = prune(model, X, ratio=0.5)
        assert {n: w.size for n, w in bundle.plan.widths.items()} == {"conv1": 6, "conv2": 4}
        assert bundle.model.conv1.out_channels == 3
    (said,) = caplog.messages
    assert said.startswith("Arguments can't be called again, as nobody said its width: ")
    assert said.endswith('; secateur.Entry(Arguments, {"width": ...}) as entry= says it')
