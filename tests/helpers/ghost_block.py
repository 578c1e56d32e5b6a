"""A kind of block that Secateur does not know, in one file, as a third party would write it.

The Ghost module (Han et al. 2020, "GhostNet"): a primary convolution makes half of the channels, a cheap depth-wise
one derives the other half from them.

    x ──> primary ──┬──────────────> concat ──> out
                    └──> cheap ────────┘
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.pruners.base import BasicPruning, pruner_for
from secateur.pruners.decorators import BlockKind, block_decorator
from secateur.pruners.dependencies import Chain, Names
from secateur.pruners.model_writers import Writer
from secateur.pruners.weight_transfer import State, WeightTransferUnit

# ---- dependency calculator


class GhostCalculator(Chain):
    """``convs=[primary, cheap]``: the cheap filters are cut like the primary ones, both outputs leave the block."""

    def dependent_conv(self, layerName: str, convs: Names) -> Names:
        return convs

    def internal_dependency(self, module: nn.Module, mType: str, convs: Names, ds: Names) -> tuple[bool, list[Names]]:
        return True, [convs]

    @staticmethod
    def EXAMPLE() -> tuple[nn.Module, Tensor]:  # noqa: N802
        return GhostNet(), torch.zeros(1, 3, 8, 8)


# ---- model writer


class GhostWriter(Writer):
    """Says in the generated class how many channels were left."""

    def class_source(self, cls: type[nn.Module], instances: Mapping[str, nn.Module], source: str) -> str:
        head, colon, body = source.partition(":\n")
        left = ", ".join(f"{path}: {block.primary.out_channels}" for path, block in instances.items())
        return f"{head}{colon}    # primary channels: {left}\n{body}"


# ---- weight transfer unit


class GhostTransfer(WeightTransferUnit):
    """``energy`` sums up the squares of the primary weights; a slice of a sum is not the sum of a slice."""

    def transfer(self, module: nn.Module, state: State, sliced: State) -> Mapping[str, Tensor]:
        return {"energy": sliced["primary.weight"].detach().square().sum()}


# ---- decorator

GHOST = BlockKind("ghost", GhostCalculator(), GhostWriter(), GhostTransfer(), arguments=("convs",))
ghost = block_decorator(GHOST)

# ---- a network with the block


@ghost(lType="ghost", convs=["primary", "cheap"])
class GhostModule(nn.Module):
    """Twice as many channels as its primary convolution makes."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        half = out_channels // 2
        self.primary = nn.Conv2d(in_channels, half, kernel_size=1, stride=stride, bias=False)
        self.primary_bn = nn.BatchNorm2d(half)
        self.cheap = nn.Conv2d(half, half, kernel_size=3, padding=1, groups=half, bias=False)
        self.cheap_bn = nn.BatchNorm2d(half)
        self.register_buffer("energy", self.primary.weight.detach().square().sum())

    def forward(self, x: Tensor) -> Tensor:
        primary = F.relu(self.primary_bn(self.primary(x)))
        cheap = F.relu(self.cheap_bn(self.cheap(primary)))
        return torch.cat([primary, cheap], dim=1)


class GhostNet(nn.Module):
    """A stem, two Ghost modules, a linear layer."""

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, kernel_size=3, padding=1)
        self.first = GhostModule(8, 16)
        self.second = GhostModule(16, 24, stride=2)
        self.head = nn.Linear(24, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(self.stem(x)))
        return self.head(x.mean(dim=(2, 3)))


# ---- pruner class


@pruner_for(__name__)
class GhostPruning(BasicPruning):
    """Writes ``ghost_net.py``."""

    fileName = "ghost_net.py"
    netName = "ghost_net"
