"""What CONTRIBUTING walks through works: its rule and its metric are run as they stand there."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from secateur import prune, trace
from secateur.pruners.metrics import METRICS
from secateur.pruners.trace.rules import RULES

ROOT = Path(__file__).parents[1]
CODE = [
    textwrap.dedent(block)
    for block in re.findall(r"^ *```python\n(.*?)^ *```", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.M | re.S)
]


class Running(nn.Module):
    def __init__(self, axis: int) -> None:
        super().__init__()
        self.first, self.second, self.axis = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1), axis

    def forward(self, x):
        return self.second(torch.cummax(self.first(x), self.axis).values)


@pytest.fixture
def walked(monkeypatch):
    """All code of the page, and nothing of it afterwards."""
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))
    for name in ("cummax", "cummin"):
        monkeypatch.setitem(RULES, getattr(torch.ops.aten, name), None)
    for block in CODE:
        exec(compile(block, "CONTRIBUTING.md", "exec"), {})


def test_without_the_rule_channels_are_held():
    graph = trace(Running(3), torch.zeros(1, 3, 4, 4))
    assert not graph.widths
    assert "no rule for the operation cummax" in graph.why("first")


def test_with_the_rule_pixels_are_run_over_and_channels_held(walked):
    assert [w.name for w in trace(Running(3), torch.zeros(1, 3, 4, 4)).widths] == ["first"]
    held = trace(Running(1), torch.zeros(1, 3, 4, 4))
    assert not held.widths
    assert "cummax runs along the channels" in held.why("first")


def test_the_metric_ranks(walked):
    from secateur.models.cifar.lenet5 import lenet5

    torch.manual_seed(0)
    net = lenet5()
    with torch.no_grad():
        net.conv1.weight[3] = 10.0
    bundle = prune(net, torch.zeros(1, 1, 28, 28), ratio=0.9, metric="max_weight")
    assert 3 in bundle.plan.kept["conv1"]


@pytest.mark.parametrize("file", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda f: f.name)
def test_forms_are_yaml(file):
    form = yaml.safe_load(file.read_text("utf-8"))
    assert isinstance(form, dict)
    if "body" in form:
        assert {"name", "description"} <= form.keys()
        assert all(part["attributes"]["label"] for part in form["body"])


def test_the_workflow_calls_what_ci_runs():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8"))
    assert {"run": ".ci/run"} in workflow["jobs"]["tests"]["steps"]
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111
