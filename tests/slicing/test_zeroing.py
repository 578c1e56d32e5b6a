"""Pruned networks in the whole one's shape: they compute what the slices do, before and after training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.models import registry
from secateur.pruners.base import BasicPruning
from secateur.pruners.errors import UsageError
from secateur.pruners.slicing import zero_out
from secateur.pruners.verify import oracle
from secateur.training.binarization.kinds import KINDS, Kind

X = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


def network(name: str, kind: Kind) -> nn.Module:
    torch.manual_seed(0)
    more = {"blocks": 1} if name == "resnet20_binary" else {}
    arguments = {**registry.arguments_for(name, (1, 8, 8), 3), **registry.layer_arguments(name, kind.layers()), **more}
    return registry.create(name, **arguments)


class Grouped(nn.Module):
    """Groups, a depth-wise convolution, a PReLU, and features of a flattened image."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(1, 8, 3)
        self.b = nn.Conv2d(8, 12, 3, groups=2, bias=False)
        self.norm = nn.BatchNorm2d(12)
        self.act = nn.PReLU(12)
        self.c = nn.Conv2d(12, 12, 3, groups=12)
        self.fc = nn.Linear(12 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.c(self.act(self.norm(self.b(self.a(x).sigmoid())))).flatten(1))


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(64, 8)
        self.norm = nn.LayerNorm(8)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.norm(self.a(x.flatten(1))))


def half(pruner: BasicPruning) -> dict[str, Any]:
    return {w.name: np.arange(w.size)[1::2] if w.n_blocks == 1 else pruner.rank("l1").keep(w, w.size // 2)
            for w in pruner.graph.widths}  # fmt: skip


def test_a_layer_norm_is_refused_by_name() -> None:
    model = Normed()
    pruner = BasicPruning(model, X)
    with pytest.raises(UsageError, match=r"can't keep channels of norm \(LayerNorm\) at zero: take --mode prune"):
        zero_out(model, pruner.graph, half(pruner))


KINDS_TRIED = ["Real", "BinaryNet", "XnorNet", "DoReFa", "IRNet", "IENet"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("grouped", "Real"), *((n, k) for n in ("lenet5_binary", "resnet20_binary") for k in KINDS_TRIED)],
)
def test_zeroed_and_sliced_networks_are_one(name: str, kind: str) -> None:
    model = Grouped() if name == "grouped" else network(name, KINDS[kind])
    oracle.randomise(model, 0)
    model.double()
    pruner = BasicPruning(model, X.double())
    kept = half(pruner)
    masked = zero_out(model, pruner.graph, kept)
    before = {k: v.clone() for k, v in masked.state_dict().items()}
    assert before.keys() == model.state_dict().keys()

    def compare() -> None:
        sliced = pruner.realize(kept, model).eval()
        with torch.no_grad():
            torch.testing.assert_close(masked.eval()(X.double()), sliced(X.double()), rtol=1e-10, atol=1e-10)

    compare()
    sliced = pruner.realize(kept, model).train()
    steps = [torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9) for m in (masked.train(), sliced)]
    for _ in range(2):
        for m, step in zip((masked, sliced), steps, strict=True):
            step.zero_grad()
            F.cross_entropy(m(X.double()), LABELS).backward()
            step.step()
            KINDS[kind].at_epoch(m, 0.5)
            KINDS[kind].after_step(m)
    # it learned what the slice learned, in place; what is removed did not move
    state = masked.state_dict()
    model.load_state_dict(state)
    for key, value in pruner.realize(kept, model).state_dict().items():
        torch.testing.assert_close(value, sliced.state_dict()[key], rtol=1e-8, atol=1e-8)
    moved = {k: state[k] != before[k] for k in state}
    for slot, mask in pruner.graph.masks(kept).items():
        if slot.blocks == 1:
            assert not moved[slot.parameter].movedim(slot.dim, 0)[~torch.from_numpy(mask)].any()
    assert any(m.any() for m in moved.values())
    compare()
