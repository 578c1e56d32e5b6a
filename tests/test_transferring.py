"""``--transfer`` from the command line's side."""

from __future__ import annotations

import pytest
import torch

from commands.transferring import check_transfer, transferred
from models import registry
from pruners.errors import UsageError
from pruners.resnet import ResNetPruning
from training.data import load_data


@pytest.mark.parametrize(
    "name, with_data, message",
    [
        pytest.param("slices", True, "did you mean slice", id="a name that isn't there"),
        pytest.param("lstsq", True, "--transfer lstsq .* is not in this version", id="a name that is reserved"),
        pytest.param("bn", False, "--transfer bn looks at images: add --data", id="statistics without images"),
    ],
)
def test_is_refused(name: str, with_data: bool, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_transfer(name, with_data)


@pytest.mark.parametrize("name", ["slice", "bn"])
def test_batch_norm_statistics_are_the_only_difference(name: str) -> None:
    data = load_data("digits")
    pruner = ResNetPruning(registry.create("resnet20", in_channels=1), torch.zeros(1, *data.input_shape))
    plan = pruner.plan({w.name: range(w.size // 2) for w in pruner.graph.widths})
    sliced = pruner.realize(plan.kept).state_dict()
    network = pruner.realize(plan.kept)
    state = transferred(name, network, pruner.model.state_dict(), pruner, plan, data)
    changed = {k.rpartition(".")[2] for k, v in state.items() if not torch.equal(v, sliced[k])}
    assert changed == ({"running_mean", "running_var"} if name == "bn" else set())
