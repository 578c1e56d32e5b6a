"""Weights alone, under the network's own names, loaded into a copy of it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ...pruners.run import copied
from .program import Program


def write(program: Program, path: Path) -> None:
    from safetensors.torch import save_model

    save_model(program.network, str(path))
    path.chmod(path.parent.stat().st_mode & 0o666)  # the library lets its owner alone read it


@torch.no_grad()
def opened(path: Path, program: Program) -> nn.Module:
    from safetensors.torch import load_model

    network = copied(program.network)
    for tensor in network.state_dict().values():
        tensor.zero_()  # what isn't in the file is noticed
    load_model(network, path, strict=True)
    return network
