"""torch's own exported program, opened by ``torch.export.load``."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.utils._pytree import tree_unflatten

from ...pruners.run import isolated
from .opened import Opened
from .program import Program, quiet


def write(program: Program, path: Path) -> None:
    with quiet():
        torch.export.save(program.exported, path)


def opened(path: Path, program: Program) -> Opened:
    with quiet():
        network = torch.export.load(path).module()
    spec = program.exported.call_spec.in_spec

    def call(leaves: list[object]) -> list[Tensor]:
        args, kwargs = tree_unflatten(leaves, spec)
        return isolated.tensors_in(network(*args, **kwargs))

    return Opened(call)
