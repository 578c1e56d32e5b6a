"""Names of layers that can't stand behind a dot, and files that are not in UTF-8."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from secateur import prune

HEAD = "import torch\nimport torch.nn.functional as F\nfrom torch import nn\n\n\nclass Net(nn.Module):\n"
TAIL = "        return self.fc(x.mean((2, 3)))\n"

NAMES = {
    "keywords": """
    def __init__(self, width=8):
        super().__init__()
        self.c1 = nn.Conv2d(3, width, 3, padding=1)
        setattr(self, "lambda", nn.Conv2d(width, 12, 1))
        self.add_module("class", nn.BatchNorm2d(12))
        self.fc = nn.Linear(12, 5)

    def forward(self, x):
        x = getattr(self, "class")(getattr(self, "lambda")(F.relu(self.c1(x))))
""",
    "digits, dashes and quotes": """
    def __init__(self):
        super().__init__()
        self.add_module("1x1", nn.Conv2d(3, 8, 1))
        self.add_module("a-b", nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU()))
        self.add_module('say "x"', nn.Conv2d(8, 8, 1))
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        x = getattr(self, 'say "x"')(getattr(self, "a-b")(getattr(self, "1x1")(x)))
""",
    "keys of dicts": """
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.ways = nn.ModuleDict({"3x3": nn.Conv2d(8, 8, 3, padding=1), "from": nn.Conv2d(8, 8, 1)})
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        x = F.relu(self.stem(x))
        x = F.relu(self.ways["3x3"](x)) + self.ways["from"](x)
""",
    "parameters and buffers": """
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.register_parameter("in", nn.Parameter(torch.ones(8)))
        self.register_buffer("not", torch.zeros(8))
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        x = F.relu(self.stem(x)) * getattr(self, "in").view(-1, 1, 1) + getattr(self, "not").view(-1, 1, 1)
""",
    "frozen": """
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.add_module("1x1", nn.Conv2d(8, 8, 1))
        getattr(self, "1x1").requires_grad_(False)
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        x = getattr(self, "1x1")(F.relu(self.stem(x)))
""",
    "in some blocks alone": """
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.one, self.two = Block(8, True), Block(8, False)
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        x = self.two(self.one(F.relu(self.stem(x))))
""",
}
BLOCK = '''

class Block(nn.Module):
    def __init__(self, width, more):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 1)
        if more:
            self.add_module("1x1", nn.Conv2d(width, width, 1))

    def forward(self, x):
        x = F.relu(self.conv(x))
        return getattr(self, "1x1")(x) if hasattr(self, "1x1") else x
'''


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_no_identifiers_stay(tmp_path: Path, name: str) -> None:
    """The written file is verified against the pruned network before it is there."""
    (tmp_path / "odd_names.py").write_text(HEAD + NAMES[name].lstrip("\n") + TAIL + BLOCK)
    torch.manual_seed(0)
    model = loaded(tmp_path / "odd_names.py").Net()
    bundle = prune(model, torch.randn(1, 3, 9, 9), ratio=0.5, output=tmp_path / "out")
    assert set(bundle.model.state_dict()) == set(model.state_dict())
    trained = {n: p.requires_grad for n, p in model.named_parameters()}
    assert {n: p.requires_grad for n, p in bundle.model.named_parameters()} == trained
    assert bundle.summary["params"]["after"] < bundle.summary["params"]["before"]


@pytest.mark.parametrize(
    ("first", "encoding"),
    [
        ("# -*- coding: latin-1 -*-\n", "latin-1"), ("#!/usr/bin/python\n# vim: set fileencoding=cp1252 :\n", "cp1252"),
        ("\ufeff", "utf-8"),
    ],
    ids=["Latin-1", "Windows letters in the second line", "a byte-order mark"],
)  # fmt: skip
def test_files_in_other_letters_are_read_as_python_reads_them(
    tmp_path: Path, first: str, encoding: str
) -> None:
    noted = '        self.note = "café"  # très\n        self.stem'
    body = NAMES["keys of dicts"].lstrip("\n").replace("        self.stem", noted)
    forward = '        assert self.note == "café"\n'
    text = HEAD + body + forward + TAIL
    (tmp_path / "other_letters.py").write_bytes((first + text).encode(encoding))
    model = loaded(tmp_path / "other_letters.py").Net()
    bundle = prune(model, torch.randn(1, 3, 9, 9), ratio=0.5, output=tmp_path / "out")
    assert bundle.model.note == "café"
    assert "# très" in (tmp_path / "out" / "model.py").read_text("utf-8")
