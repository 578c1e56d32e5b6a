"""Weights of the programs that these networks follow, which have other names there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """``names``: layers there -> layers here. ``absent``: norms without parameters that it doesn't have, and their
    epsilons: with these statistics they change nothing."""

    origin: str
    names: Mapping[str, str]
    absent: Mapping[str, tuple[int, float]]

    def taken_over(self, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """The weights under the names that they have here; None where they are of another network."""
        taken: dict[str, Tensor] = {}
        for key, value in state.items():
            layer = next((name for name in self.names if key.startswith(f"{name}.")), None)
            if layer is None:
                return None
            taken[self.names[layer] + key.removeprefix(layer)] = value
        for norm, (size, epsilon) in self.absent.items():
            taken[f"{norm}.running_mean"] = torch.zeros(size)
            taken[f"{norm}.running_var"] = torch.full((size,), 1 - epsilon)
        return taken


LAYOUTS: Mapping[str, Layout] = {
    "lenet5_binary": Layout(
        "XNOR-Net-PyTorch",
        {"conv1": "conv1", "bn_conv1": "bn1", "bin_conv2.bn": "bn2", "bin_conv2.conv": "conv2", "bin_ip1.bn": "bn3",
         "bin_ip1.linear": "ip1", "ip2": "ip2"},
        {"bn4": (500, 1e-4)},
    ),
    "nin_binary": Layout("XNOR-Net-PyTorch", {"xnor": "layers"}, {}),
}  # fmt: skip
