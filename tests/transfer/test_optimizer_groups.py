"""Which parameter an optimizer's numbers stand for, against the optimizer's own parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secateur.pruners.errors import CheckpointError
from secateur.pruners.optimizer_groups import parameter_names

Groups = list[list[tuple[str, nn.Parameter]]]


class Net(nn.Module):
    """Biases, norms and two equal blocks: many parameters of one shape."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.body = nn.Sequential(*(m for _ in range(2) for m in (nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU())))
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)).mean((2, 3)))


def trained(groups: Groups, model: nn.Module, momentum: float = 0.9) -> dict[str, Any]:
    optimizer = torch.optim.SGD([{"params": [p for _, p in g]} for g in groups], 0.1, momentum)
    model(torch.randn(2, 3, 9, 9)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


def by(choose: Callable[[str, nn.Parameter], int], model: nn.Module) -> Groups:
    named = list(model.named_parameters())
    return [[(n, p) for n, p in named if choose(n, p) == i] for i in range(3)]


# -- refusals


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        pytest.param({"lr": 0.1}, "it is no state_dict of an optimizer", id="something else under that name"),
        pytest.param(
            {"param_groups": [{"params": [0, 1]}], "state": {}}, "is of 2 parameters, the network has 12", id="too few"
        ),
        pytest.param(
            {"param_groups": [{"params": [*range(6)]}, {"params": [*range(6, 12)]}], "state": {}},
            "2 groups of parameters, and which parameter is in which is not sure",
            id="a state that tells nothing",
        ),
        pytest.param(
            {"param_groups": [{"params": [0], "param_names": ["tail.weight"]}], "state": {}},
            "its parameter tail.weight is none of the network's",
            id="names of another network",
        ),
    ],
)
def test_what_does_not_fit_is_refused(state, reason):
    with pytest.raises(CheckpointError, match=reason):
        parameter_names(state, Net())


def test_groups_that_could_be_others_are_refused():
    """Every other parameter: the biases of two equal layers may be in either group."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(4)))
    numbers = {n: i for i, (n, _) in enumerate(model.named_parameters())}
    groups = by(lambda n, p: int(numbers[n] in (0, 1, 4, 5)), model)
    with pytest.raises(CheckpointError, match="not sure; make the optimizer with names"):
        parameter_names(trained(groups, model), model)


# -- what is found


@pytest.mark.parametrize(
    "choose",
    [
        pytest.param(lambda n, p: 0, id="one group"),
        pytest.param(lambda n, p: int(p.ndim > 1), id="weights last"),
        pytest.param(lambda n, p: int(p.ndim <= 1), id="weights first"),
        pytest.param(lambda n, p: int(n.endswith("bias")), id="biases apart"),
        pytest.param(lambda n, p: int(".1." in n or ".4." in n), id="norms apart"),
        pytest.param(lambda n, p: int(n.startswith("head")), id="the head last"),
        pytest.param(lambda n, p: int(not n.startswith("head")), id="the head first"),
        pytest.param(
            lambda n, p: 2 if n.endswith("bias") else int(p.ndim > 1), id="norms, weights and biases"
        ),
    ],
)  # fmt: skip
def test_the_usual_groups_are_found(choose):
    torch.manual_seed(0)
    model = Net()
    groups = by(choose, model)
    assert parameter_names(trained(groups, model), model) == [n for g in groups for n, _ in g]


def test_shapes_alone_tell_where_all_are_others():
    """No usual way to make groups: only shapes tell which is where."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 5, 1), nn.Conv2d(5, 6, 1), nn.Flatten(), nn.Linear(486, 2))
    groups = by(lambda n, p: int(n in ("0.bias", "2.weight", "4.bias")), model)
    assert parameter_names(trained(groups, model), model) == [n for g in groups for n, _ in g]


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
def test_names_in_the_state_are_taken(prefix):
    torch.manual_seed(0)
    model = Net()
    groups = by(lambda n, p: len(n) % 2, model)
    state = trained([list(reversed(g)) for g in groups], model)
    for group, named in zip(state["param_groups"], groups, strict=True):
        group["param_names"] = [prefix + n for n, _ in reversed(named)]
    assert parameter_names(state, model) == [n for g in groups for n, _ in reversed(g)]


def test_frozen_parameters_were_not_given():
    torch.manual_seed(0)
    model = Net()
    model.stem.requires_grad_(False)
    groups = by(lambda n, p: int(p.ndim > 1) if p.requires_grad else 9, model)
    assert parameter_names(trained(groups[:2], model), model) == [n for g in groups[:2] for n, _ in g]
