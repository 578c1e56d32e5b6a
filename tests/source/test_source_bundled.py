"""The bundled networks, written whole and pruned: every emitted file is imported and compared."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from source_helpers import assert_writes

from secateur.pruners.slicing import slice_model
from secateur.pruners.source import Entry
from secateur.pruners.trace.trace import trace

NETWORKS = [
    ("resnet", "resnet20", {}),
    ("resnet", "resnet20", {"shortcut": "B", "num_classes": 7}),
    ("resnet", "resnet44", {"block": "bottleneck"}),
    ("resnet", "resnet44", {"block": "bottleneck", "shortcut": "B"}),
    ("mobilenetv2", "mobilenetv2", {}),
    ("squeezenet", "squeezenet", {}),
    ("alexnet", "alexnet", {"image_size": 8, "in_channels": 1}),
    ("vgg", "vgg11", {}),
    ("vgg_small", "vgg_small", {}),
    ("nin", "nin", {}),
    ("lenet5", "lenet5", {}),
]


def _names(row: tuple[str, str, dict[str, Any]]) -> str:
    return f"{row[1]} with {row[2]}" if row[2] else row[1]


def _made(row: tuple[str, str, dict[str, Any]]) -> tuple[torch.nn.Module, Entry, torch.Tensor]:
    module, name, kwargs = row
    factory = getattr(importlib.import_module(f"models.cifar.{module}"), name)
    torch.manual_seed(0)
    channels = kwargs.get("in_channels", 1 if name == "lenet5" else 3)
    size = kwargs.get("image_size", 28 if name == "lenet5" else 32)
    return factory(**kwargs).eval(), Entry(factory, kwargs, name), torch.randn(2, channels, size, size)


@pytest.mark.parametrize("row", NETWORKS, ids=_names)
def test_an_untouched_network_is_written_as_itself(row: tuple[str, str, dict[str, Any]], tmp_path: Path) -> None:
    model, entry, x = _made(row)
    assert_writes(model, entry, tmp_path, x)


@pytest.mark.parametrize("row", NETWORKS, ids=_names)
def test_a_network_whose_every_block_has_other_widths_is_written(
    row: tuple[str, str, dict[str, Any]], tmp_path: Path
) -> None:
    model, entry, x = _made(row)
    graph = trace(model, x)
    keep = torch.Generator().manual_seed(1)
    kept = {}
    for width in graph.widths:
        left = int(torch.randint(width.size // 2, width.size, (), generator=keep)) or 1
        kept[width.name] = list(range(left))
    sliced = slice_model(model, graph, kept, x)
    text = assert_writes(sliced.model, entry, tmp_path, x, rewrites=sliced.literals)
    assert "pruners" not in text.split('"""', 2)[2]
    assert "models" not in {n.module for n in ast.walk(ast.parse(text)) if isinstance(n, ast.ImportFrom)}


@pytest.mark.parametrize("row", NETWORKS[:5], ids=_names)
def test_written_text_is_clean_for_the_linter(row: tuple[str, str, dict[str, Any]], tmp_path: Path) -> None:
    from secateur.pruners.source import write_source

    model, entry, _ = _made(row)
    path = tmp_path / "model.py"
    path.write_text(write_source(model, entry))
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--line-length", "120", "--select", "E,F,W,I", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_forward_comments_and_docstrings_stay_as_the_author_wrote_them(tmp_path: Path) -> None:
    model, entry, x = _made(NETWORKS[0])
    text = assert_writes(model, entry, tmp_path, x)
    source = (Path(__file__).parents[2] / "models/cifar/resnet.py").read_text()
    for start, end in [
        ("    def shortcut", "\n\n\n@bottleneck"),
        ("    def forward(self, x: Tensor) -> Tensor:\n        x =", "\n\n\ndef resnet20"),
    ]:
        part = source[source.index(start) : source.index(end)]
        assert part in text
    assert "# channels of zeros before and after the strided input" in text


def test_arguments_that_pruning_does_not_touch_stay_arguments(tmp_path: Path) -> None:
    model, entry, x = _made(NETWORKS[1])
    text = assert_writes(model, entry, tmp_path, x)
    assert 'def resnet20(num_classes: int = 7, in_channels: int = 3, shortcut: str = "B") -> ResNet:' in text
    assert "self.linear = nn.Linear(64 * kind.expansion, num_classes)" in text
