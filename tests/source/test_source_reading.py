"""How the written source reads: nothing dead, no needless parameter, the author's words."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from reading_networks import Reader
from source_helpers import assert_writes

from secateur.pruners.slicing import slice_model
from secateur.pruners.source import Entry
from secateur.pruners.source.text import without_dead_branches, without_entries
from secateur.pruners.trace.trace import trace


def _absent(kind: ast.expr) -> bool:
    return isinstance(kind, ast.Name) and kind.id == "Gone"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        pytest.param("x = 1\n", "x = 1\n", id="nothing to leave out"),
        pytest.param("if isinstance(m, Gone):\n    a()\n", "", id="the only branch"),
        pytest.param("if isinstance(m, Gone) and m.b:\n    a()\nelif b:\n    c()  # why\n",
                     "if b:\n    c()  # why\n", id="the first branch"),
        pytest.param("if b:\n    c()\nelif isinstance(m, Gone):\n    a()\nelse:\n    d()\n",
                     "if b:\n    c()\nelse:\n    d()\n", id="a branch in the middle"),
        pytest.param("if isinstance(m, Gone):\n    a()\nelse:\n    d()\n", "d()\n", id="all but the last"),
        pytest.param("for m in all:\n    if isinstance(m, Gone):\n        a()\n", "", id="a loop over nothing else"),
        pytest.param("if isinstance(m, Gone) or b:\n    a()\n", "if isinstance(m, Gone) or b:\n    a()\n", id="an or"),
        pytest.param("if isinstance(m, (Gone, Here)):\n    a()\n", "if isinstance(m, (Gone, Here)):\n    a()\n",
                     id="one of several kinds"),
    ],
)  # fmt: skip
def test_branches_for_absent_classes_go(text: str, kept: str) -> None:
    assert without_dead_branches(text, _absent) == kept


def _written(tmp_path: Path, fraction: float, skip: Sequence[str] = ()) -> str:
    torch.manual_seed(0)
    model, x = Reader().eval(), torch.randn(2, 3, 8, 8)
    graph = trace(model, x, skip=skip)
    kept = {w.name: list(range(max(1, int(fraction * w.size)))) for w in graph.widths if w.name not in skip}
    sliced = slice_model(model, graph, kept, x)
    return assert_writes(sliced.model, Entry(Reader, {}, "Reader"), tmp_path, x, rewrites=sliced.literals)


@pytest.fixture
def written(tmp_path: Path) -> str:
    return _written(tmp_path, 0.5)


def test_padding_is_computed_where_the_author_computed_it(written: str) -> None:
    assert "padding=(kernel_size - 1) // 2," in written or "(kernel_size - 1) // 2" in written
    assert "ConvAct(4, 8, kernel_size=5)" in written or "ConvAct(4, 8, 5)" in written


def test_a_width_that_is_a_product_stays_one(written: str) -> None:
    assert "self.mlp = Mlp(dim, [ratio * dim, dim])" in written and "Block(8, 4)" in written


def test_the_number_of_classes_stays_a_parameter(written: str) -> None:
    assert "def __init__(self, num_classes: int = 10, calm: bool = True) -> None:" in written
    assert "nn.Linear(16, num_classes)" in written
    assert "self.num_classes = num_classes" in written


def test_classes_the_network_has_none_of_are_left_out(written: str) -> None:
    assert "OtherBlock" not in written
    assert "isinstance(m, Block)" in written


def test_a_docstring_that_loses_all_its_entries_is_one_line() -> None:
    lines = ['    """A layer.', "", "    Args:", "        width: how wide", '    """']
    assert without_entries(lines, {"width"}) == ['    """A layer."""']
    assert without_entries(lines, {"depth"}) == lines
