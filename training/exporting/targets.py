"""The kinds of files: how each is written, and opened where it is to run."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from .program import Program

LARGEST_BATCH = 8
"""Where the file says how much memory a call takes."""


@dataclass(frozen=True)
class Target:
    """``name``: as the option has it. ``most``: the largest batch that its files take, None for any. ``computes``: it
    holds operations, not weights alone. ``bits``: it can hold an operation of a packed file's own."""

    name: str
    most: int | None = None
    computes: bool = True
    bits: bool = False

    def write(self, program: Program, path: Path) -> None:
        """UsageError where the target has no form for the network."""
        self._module.write(program, path)

    def opened(self, path: Path, program: Program) -> nn.Module:
        """The file in the target's own runtime, called as the network is; its outputs are a tuple of tensors, or the
        only one."""
        found: nn.Module = self._module.opened(path, program)
        return found

    @property
    def _module(self) -> Any:
        return import_module(f".{self.name}_file", __package__)


TARGETS = {
    target.name: target
    for target in (
        Target("executorch", most=LARGEST_BATCH),
        Target("onnx"),
        Target("safetensors", computes=False, bits=True),
        Target("torch_export", bits=True),
    )
}
