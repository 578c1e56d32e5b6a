"""Runs generated source as a user would and compares it with the live network."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from secateur.pruners.source import Entry, LiteralSite, write_source

_NUMBER = count(1)


def load(text: str, folder: Path, name: str = "written") -> ModuleType:
    """The text as an imported module with a file of its own."""
    path = folder / f"{name}_{next(_NUMBER)}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def body(text: str) -> str:
    """The file without its docstring."""
    return text.split('"""', 2)[2]


def assert_same_network(twin: nn.Module, model: nn.Module, *inputs: torch.Tensor) -> None:
    """Same keys, shapes and types; strict loading; equal outputs bit by bit."""
    wanted = {k: (v.shape, v.dtype) for k, v in model.state_dict().items()}
    assert list(wanted.items()) == [(k, (v.shape, v.dtype)) for k, v in twin.state_dict().items()]
    twin.load_state_dict(model.state_dict(), strict=True)
    for x in inputs:
        torch.testing.assert_close(twin.eval()(x), model.eval()(x), rtol=0, atol=0)


def assert_writes(
    model: nn.Module,
    entry: Entry,
    folder: Path,
    *inputs: torch.Tensor,
    rewrites: Sequence[LiteralSite] = (),
) -> str:
    """Writes, imports, compares; then writes the written file again and expects the same body. Gives the text."""
    text = write_source(model, entry, rewrites=rewrites)
    module = load(text, folder)
    twin = getattr(module, entry.name)()
    assert_same_network(twin, model, *(() if rewrites else inputs))
    again = write_source(getattr(module, entry.name)(), Entry(getattr(module, entry.name), {}, entry.name))
    assert body(again) == body(text)
    return text


def beside_arguments(lost: Sequence[str]) -> list[str]:
    """What is told as lost but for arguments of the network's classes, ``Net(width)``, which go where these are written
    out."""
    return [name for name in lost if not re.fullmatch(r"([A-Z]\w*|net)\(\w+\)", name)]
