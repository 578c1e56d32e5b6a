"""ExecuTorch, lowered to XNNPACK, opened by its runtime on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...pruners.errors import UnsuitedError
from ...pruners.run import described
from .opened import Opened
from .program import Program, quiet


def write(program: Program, path: Path) -> None:
    exported = program.exported
    try:
        with quiet(), torch.no_grad():
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
            from executorch.exir import to_edge_transform_and_lower

            lowered = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch()
    except Exception as error:  # an operation that it has no kernel for
        name = type(program.network).__name__
        raise UnsuitedError(f"ExecuTorch has no form for {name}: {described(error)}") from error
    with open(path, "wb") as file:
        lowered.write_to_file(file)


def opened(path: Path, program: Program) -> Opened:
    with quiet():
        from executorch.runtime import Runtime

        method: Any = Runtime.get().load_program(path).load_method("forward")

    def call(leaves: list[Any]) -> list[Tensor]:
        given = [leaf.contiguous() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        return [out.clone() for out in method.execute(given)]  # their memory is the method's, which uses it again

    return Opened(call)
