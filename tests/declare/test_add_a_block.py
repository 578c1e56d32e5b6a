"""docs/add_a_block.md: its code is one file that works."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from declared_graphs import declared_graph, same_groups
from torch import nn

from secateur.pruners.base import PRUNERS
from secateur.pruners.declare import check_declarations, check_kind
from secateur.pruners.decorators import basic_block, fire
from secateur.pruners.errors import DeclarationError
from secateur.pruners.trace import observe

PAGE = Path(__file__).parents[2] / "docs" / "add_a_block.md"


@pytest.fixture(scope="module")
def ghost(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    file = tmp_path_factory.mktemp("page") / "ghost_of_the_page.py"
    parts = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    file.write_text("\n\n".join(parts), "utf-8")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[file.stem], PRUNERS[file.stem]


def test_the_kind_is_declared_as_it_runs(ghost: ModuleType) -> None:
    graph = check_kind(ghost.GHOST)
    assert same_groups(declared_graph(ghost.GhostNet()), graph)
    assert "outputs of ghost.cheap" in graph.why("ghost.primary")


def test_its_example_becomes_a_verified_bundle(ghost: ModuleType, tmp_path: Path) -> None:
    torch.manual_seed(0)
    bundle = ghost.prune_example(tmp_path / "bundle")
    text = (bundle.path / "ghost_net.py").read_text("utf-8")
    assert bundle.summary["verified"] is True
    assert "# pruned: ghost\n" in text
    assert "pruners" not in text
    state = bundle.model.state_dict()
    torch.testing.assert_close(state["ghost.energy"], state["ghost.primary.weight"].square().sum())


def test_the_five_questions_of_the_page_are_all_there_are(ghost: ModuleType) -> None:
    from secateur.pruners.dependencies import DependencyCalculator

    text = PAGE.read_text("utf-8")
    assert len(DependencyCalculator.__abstractmethods__) == 5
    assert all(f"`{name}(" in text for name in DependencyCalculator.__abstractmethods__)


class Mix(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(x)
        return self.conv2(x) + self.conv3(x)


@pytest.mark.parametrize(
    "decorator, convs, line",
    [
        (basic_block, ["conv1", "conv21"], 0),
        (basic_block, ["conv1", "conv2"], 1),
        (fire, ["conv1", "conv2", "conv3"], 2),
    ],
)
def test_the_messages_of_the_page_are_those_of_the_tool(decorator: object, convs: list[str], line: int) -> None:
    shown = re.findall(r"^@\w+ at .*$", PAGE.read_text("utf-8"), re.MULTILINE)[line].partition(") ")[2]
    model = nn.Sequential(nn.Conv2d(3, 8, 1), decorator(lType="x", convs=convs)(type("M", (Mix,), {}))())  # type: ignore[operator]
    x = torch.randn(1, 3, 4, 4)
    with pytest.raises(DeclarationError) as caught:
        check_declarations(model, observe(model, x).facts, x)
    said = str(caught.value).partition(") ")[2]
    assert said == shown
