"""The examples run in a folder of their own, as a reader copies them; so do the notebooks and the pages' commands."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest
from app_helpers import app

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
PAGES = [ROOT / "docs" / "tutorial.md", *sorted((ROOT / "docs" / "how_to").glob("*.md"))]
QUICK = ("tutorial.md", "unet.md", "python.md")  # the others train or search for longer


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The examples in an empty folder, which is the current one and the first in which modules are found."""
    for file in EXAMPLES.iterdir():
        if file.is_file():
            shutil.copy(file, tmp_path)
    names = {file.stem for file in EXAMPLES.glob("*.py")}
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in names & sys.modules.keys():
        del sys.modules[name]


def commands(page: Path) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [line for line in "".join(blocks).splitlines() if line]


def test_pages_use_commands_that_are_there():
    from secateur.app import cli

    for line in (line for page in PAGES for line in commands(page)):
        program, *words = line.split()
        if program == "secateur":
            cli.commands[words[0]].make_context(words[0], words[1:])
        elif program == "python":
            assert (EXAMPLES / words[0]).exists(), line
        else:
            assert line.startswith("pip install "), line


@pytest.mark.parametrize("page", [p for p in PAGES if p.name in QUICK], ids=lambda p: p.name)
def test_a_page_runs_from_top_to_bottom(folder, page):
    for line in commands(page):
        program, *words = line.split()
        if program == "python":
            runpy.run_path(words[0], run_name="__main__")
        else:
            result = app(*words)
            assert result.exit_code == 0, result.stderr


def test_the_network_of_the_tutorial_opens_without_secateur(folder):
    import torch
    from my_net import make

    from secateur import prune

    bundle = prune(make(), torch.zeros(1, 1, 8, 8), ratio=0.5, output="half")
    assert "secateur" not in bundle.source
    assert bundle.summary["verified"] is True


@pytest.mark.parametrize("rule", [True, False], ids=["with its rule", "without"])
def test_an_operation_of_ones_own_holds_channels_unless_it_has_a_rule(folder, rule):
    name = "with_rule" if rule else "without_rule"
    text = Path("own_operation.py").read_text("utf-8")
    text = text if rule else text.replace('@label_rule("examples::swish")\n', "")
    Path(f"{name}.py").write_text(text.replace("examples::", f"{name}::"), "utf-8")
    result = app("inspect", "--model", f"{name}.py:Net", "--input-shape", "3,16,16")
    assert ("2 widths" in result.output) == rule, result.output
    assert ("no rule for the operation" in " ".join(result.output.split())) != rule, result.output


def test_a_detector_is_measured_by_its_boxes(folder):
    import torch
    from detector import Detector, decoded, found

    from secateur import trace

    torch.manual_seed(0)
    net = Detector().eval()
    assert 0 <= found(net) < 0.5
    scores, boxes = decoded(net(torch.zeros(2, 1, 64, 64))[0], 8)
    assert (scores.shape, boxes.shape) == ((2, 64), (2, 64, 4))
    graph = trace(net, torch.zeros(1, 1, 64, 64))
    assert len(graph.widths) == 13


@pytest.mark.parametrize("notebook", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda p: p.name)
def test_a_notebook_runs(folder, notebook):
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    assert {cell["cell_type"] for cell in cells} == {"markdown", "code"}
    space: dict[str, object] = {"__name__": "__main__"}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), notebook.name, "exec"), space)
    assert "bundle" in space or "fitted" in space
