"""What a random network is made of while it is drawn."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

PLACES = {1: "nl", 2: "nhw", 3: "ndhw"}


@dataclass
class Draft:
    """A file while it is drawn; ``x`` has ``c`` channels at every moment."""

    dice: random.Random
    dims: int
    c: int = 3
    classes: dict[str, str] = field(default_factory=dict)
    init: list[str] = field(default_factory=list)
    forward: list[str] = field(default_factory=list)
    features: list[str] = field(default_factory=list)
    count: int = 0

    def name(self, kind: str) -> str:
        self.count += 1
        return f"{kind}{self.count}"

    def layer(self, kind: str, call: str) -> str:
        name = self.name(kind)
        self.init.append(f"self.{name} = {call}")
        return name

    def drew(self, *features: str) -> None:
        self.features.extend(features)

    @property
    def ones(self) -> str:
        """Axes of size one behind the channels."""
        return ", 1" * self.dims

    @property
    def maps(self) -> str:
        return {1: "1d", 2: "2d", 3: "3d"}[self.dims]

    @property
    def places(self) -> str:
        return str(tuple(range(2, 2 + self.dims)))

    def activation(self, c: int) -> str:
        plain = ["ReLU", "ReLU", "GELU", "SiLU", "Hardswish", "LeakyReLU", "Tanh", "ELU"]
        kind = self.dice.choice([*plain, "PReLU", "PReLU1"])
        self.drew(kind)
        return {"PReLU": f"nn.PReLU({c})", "PReLU1": "nn.PReLU()"}.get(kind, f"nn.{kind}()")

    def norm(self, c: int) -> str:
        kinds = ["BatchNorm", "BatchNorm", "InstanceNorm", "GroupNorm", "GroupNorm1", "Identity"]
        kind = self.dice.choice([k for k in kinds if k != "GroupNorm" or c % 2 == 0])
        self.drew(kind)
        return {
            "BatchNorm": f"nn.BatchNorm{self.maps}({c})",
            "InstanceNorm": f"nn.InstanceNorm{self.maps}({c}, affine={self.dice.random() < 0.5})",
            "GroupNorm": f"nn.GroupNorm(2, {c})",
            "GroupNorm1": f"nn.GroupNorm(1, {c})",
        }.get(kind, "nn.Identity()")


Step = Callable[[Draft], None]
