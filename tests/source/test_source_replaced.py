"""Layers of a parent's constructor, or of an earlier statement, that are thrown away or replaced."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from source_helpers import assert_writes, load

from secateur.pruners.slicing import slice_model
from secateur.pruners.source import Entry
from secateur.pruners.trace.trace import trace

PARENT = '''
import torch
from torch import nn


class Classifier(nn.Module):
    def __init__(self, width=16, classes=10):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.bn = nn.BatchNorm2d(width)
        self.body = nn.Conv2d(width, width, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width, classes)

    def features(self, x):
        return self.body(self.bn(self.stem(x)).relu()).relu()

    def forward(self, x):
        return self.fc(self.pool(self.features(x)).flatten(1))


'''
CHILD = '''class Net(Classifier):
    def __init__(self):
        super().__init__()
        {body}

    def forward(self, x):
        return {result}
'''
OWNER = '''class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Classifier()
        {body}

    def forward(self, x):
        return self.encoder.features(x).mean((2, 3))
'''
WHOLE = "self.fc(self.pool(self.features(x)).flatten(1))"


def _halved(net: str, folder: Path) -> str:
    """What is written of ``Net`` with half of every width; it was run and compared, the state_dict's order included."""
    torch.manual_seed(0)
    make, x = load(net, folder, "net").Net, torch.randn(2, 3, 8, 8)
    model = make().eval()
    graph = trace(model, x)
    kept = {w.name: list(range(w.size // 2)) for w in graph.widths if w.size > 1}
    sliced = slice_model(model, graph, kept, x)
    assert sum(p.numel() for p in sliced.model.parameters()) < sum(p.numel() for p in model.parameters())
    return assert_writes(sliced.model, Entry(make, {}, "Net"), folder, x, rewrites=sliced.literals)


@pytest.mark.parametrize(
    "body",
    [
        "del self.fc",
        "del self.fc, self.pool",
        'for name in ("fc", "pool"):\n            delattr(self, name)',
        'self._modules.pop("fc")',
        'if hasattr(self, "fc"):\n            del self._modules["fc"]',
    ],
)
@pytest.mark.parametrize(
    "net", [CHILD.replace("{result}", "self.features(x).mean((2, 3))"), OWNER], ids=["by itself", "by its owner"]
)
def test_what_is_thrown_away_goes_with_the_statement(net: str, body: str, tmp_path: Path) -> None:
    if "class Net(nn.Module)" in net:
        body = re.sub(r"\bself\b", "self.encoder", body)
    text = _halved(PARENT + net.format(body=body), tmp_path)
    assert "self.fc =" not in text
    assert not re.search(r"\bdel\b|delattr|_modules", text)


@pytest.mark.parametrize("body", [
    pytest.param("self.stem = nn.Conv2d(3, {16}, 5, padding=2)", id="the first"),
    pytest.param("self.body = nn.Conv2d({16}, {32}, 3)\n        self.fc = nn.Linear({32}, 4)", id="two in the middle"),
    pytest.param("self.fc = nn.Sequential(nn.Dropout(0.2), nn.Linear({16}, 3))\n        "
                 "self.bn = nn.GroupNorm({16}, {16})", id="two in another order"),
])  # fmt: skip
def test_a_layer_that_replaces_another_stays_in_its_place(body: str, tmp_path: Path) -> None:
    before, after = re.sub(r"[{}]", "", body), re.sub(r"{(\d+)}", lambda m: str(int(m[1]) // 2), body)
    text = _halved(PARENT + CHILD.format(body=before, result=WHOLE), tmp_path)
    assert f"        super().__init__()\n        {after}\n" in text
    assert "def __init__(self, width=8, classes=10):" in text


def test_a_layer_that_is_replaced_under_a_condition(tmp_path: Path) -> None:
    net = '''
from torch import nn


class Net(nn.Module):
    def __init__(self, deep=True):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.bn = nn.BatchNorm2d(16)
        if deep:
            self.conv = nn.Sequential(nn.Conv2d(3, 12, 3), nn.ReLU(), nn.Conv2d(12, 16, 3))
        self.fc = nn.Linear(16, 4)

    def forward(self, x):
        return self.fc(self.bn(self.conv(x)).mean((2, 3)))
'''
    text = _halved(net, tmp_path)
    assert text.count("self.conv =") == 2 and "        if deep:\n            self.conv = nn.Sequential(" in text
    assert "nn.Conv2d(6, 8, 3)" in text


def test_a_function_that_converts_layers_stays(tmp_path: Path) -> None:
    net = '''
from torch import nn


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.n = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)  # the stem
        self.b, self.fc = nn.Conv2d(16, 24, 3, padding=1), nn.Linear(24, 5)

    def forward(self, x):
        return self.fc(self.b(self.n(self.a(x)).relu()).relu().mean((2, 3)))


def Net():
    return nn.SyncBatchNorm.convert_sync_batchnorm(Plain())
'''
    text = _halved(net, tmp_path)
    assert "self.a, self.n = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)  # the stem" in text
    assert text.endswith("def Net():\n    return nn.SyncBatchNorm.convert_sync_batchnorm(Plain())\n")
    assert "self.b, self.fc = nn.Conv2d(8, 12, 3, padding=1), nn.Linear(12, 5)" in text
