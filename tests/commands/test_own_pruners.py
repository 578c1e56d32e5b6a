"""Pruner classes of the user's own, and the application's say in which pruner a network gets."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from secateur import app as command_line
from secateur.commands.network import setup_pruner
from secateur.pruners.base import PRUNERS, BasicPruning
from secateur.pruners.entry import Entry

NET = """
from torch import nn

from secateur.pruners.base import BasicPruning, pruner_for


class Net(nn.Sequential):
    def __init__(self, width=8):
        super().__init__(nn.Conv2d(3, width, 3), nn.ReLU(), nn.Conv2d(width, 4, 3))


def make():
    return Net()


@pruner_for(__name__)
class NetPruning(BasicPruning):
    fileName = "{file}"
    netName = "{factory}"
"""
WORDS = ["--input-shape", "3,8,8", "--ratio", "0.5", "--search", "uniform", "-o", "out"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


@pytest.mark.parametrize(
    ("file", "factory", "reason"),
    [
        ("../out.py", "made", "NetPruning.fileName must be the name of a .py file, not '../out.py'"),
        ("plan.json", "made", "NetPruning.fileName must be the name of a .py file, not 'plan.json'"),
        ("mine.py", "my net", "NetPruning.netName must be the name of a function, not 'my net'"),
    ],
)
def test_names_that_are_no_file_and_no_function_are_refused(here: Path, file: str, factory: str, reason: str) -> None:
    (here / "own_net_refused.py").write_text(NET.format(file=file, factory=factory))
    result = CliRunner().invoke(command_line.cli, ["prune", "--model", "own_net_refused.py:make", *WORDS])
    assert (result.exit_code, reason in result.output) == (2, True)
    assert not (here / "out").exists()


def test_the_users_pruner_class_names_what_is_written(here: Path) -> None:
    (here / "own_net_named.py").write_text(NET.format(file="mine.py", factory="mine"))
    result = CliRunner().invoke(command_line.cli, ["prune", "--model", "own_net_named.py:make", *WORDS])
    assert result.exit_code == 0, result.output
    assert not (here / "out" / "model.py").exists()
    assert "def mine(" in (here / "out" / "mine.py").read_text()
    summary = json.loads((here / "out" / "summary.json").read_text())
    assert (summary["file"], summary["factory"]) == ("mine.py", "mine")


def test_a_pruner_class_is_for_networks_of_its_own_module() -> None:
    class Mine(BasicPruning):
        pass

    model, image = nn.Sequential(nn.Conv2d(3, 4, 1)), torch.zeros(1, 3, 8, 8)
    PRUNERS[__name__] = Mine
    try:
        own = Entry(test_a_pruner_class_is_for_networks_of_its_own_module, {}, "f", "f")
        assert type(setup_pruner("", model, image, entry=own)) is Mine
        assert type(setup_pruner("", model, image, entry=Entry(nn.Sequential, {}, "f", "f"))) is BasicPruning
        assert type(setup_pruner("", model, image)) is BasicPruning
    finally:
        del PRUNERS[__name__]


def test_commands_get_their_pruner_from_the_application(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    usual = command_line.setup_pruner

    def mine(arch, *words, **named):
        asked.append(arch)
        return usual(arch, *words, **named)

    monkeypatch.setattr(command_line, "setup_pruner", mine)
    result = CliRunner().invoke(command_line.cli, ["inspect", "--arch", "lenet5"])
    assert (result.exit_code, asked) == (0, ["lenet5"])
