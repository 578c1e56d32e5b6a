"""Layers that a calculator says are cut alike, which no forward asks for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from secateur.pruners.base import BasicPruning
from secateur.pruners.decorators import BlockKind, basic_block, block_decorator
from secateur.pruners.dependencies import Chain
from secateur.pruners.errors import DeclarationError

X = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))


class Alike(Chain):
    def internal_dependency(self, module: nn.Module, mType: str, convs: Any, ds: Any) -> tuple[bool, list[Any]]:
        return True, [list(convs)]


alike = block_decorator(BlockKind("alike", Alike(), arguments=("convs",)))


class Chained(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x).relu())


@alike(lType="alike", convs=["conv1", "conv2"])
class Declared(Chained):
    pass


@basic_block(lType="basic_block", convs=["conv1", "conv2"])
class NoResidual(Chained):
    pass


class Net(nn.Module):
    def __init__(self, block: Any = Declared) -> None:
        super().__init__()
        self.stem, self.block, self.head = nn.Conv2d(3, 8, 1), block(), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.stem(x)))


def test_a_tie_that_no_forward_needs_is_refused_with_the_option_that_applies_it() -> None:
    with pytest.raises(DeclarationError, match="join them one by one; --tie-declared cuts them alike all the same"):
        _ = BasicPruning(Net(), X).graph


def test_a_residual_that_is_none_is_refused_all_the_same() -> None:
    for tied in (False, True):
        with pytest.raises(DeclarationError, match=r"its input and .* go together.* one by one$"):
            _ = BasicPruning(Net(NoResidual), X, tied=tied).graph


def test_layers_that_are_declared_alike_are_cut_alike_when_asked() -> None:
    pruner = BasicPruning(Net(), X, tied=True)
    made = {w.name: w.producers for w in pruner.graph.widths}
    assert made == {"stem": ("stem",), "block.conv1": ("block.conv1", "block.conv2")}
    kept = np.array([1, 2, 6])
    block = pruner.slice({"block.conv1": kept}).model.block
    for name, old in (("conv1", pruner.model.block.conv1), ("conv2", pruner.model.block.conv2)):
        torch.testing.assert_close(block.get_submodule(name).bias, old.bias[kept])
    assert pruner.plan({"block.conv1": kept}).provenance["tied"] is True
