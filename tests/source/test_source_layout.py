"""What the author wrote stays where it stood: order of imports, comments above them, empty lines."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
from source_helpers import load
from torch import nn

from secateur.pruners.entry import Entry
from secateur.pruners.source.writer import write

HEADS = {
    "as they came": "import torch.nn as nn\nimport torch\nimport os, sys\nfrom math import (sqrt,\n    pi)\n\n\n\n",
    "in groups": "import sys  # for its path\nimport os\n\n# the rest\nimport torch\nfrom torch import nn\n"
    "from math import sqrt, pi\n\n",
    "one a line": "from torch import nn; import torch\nimport sys\nimport os\n\n"
    "from math import sqrt\nfrom math import pi\n\n",
}
BODY = """HERE = os.sep, sys.path, pi
SIDE = sqrt(9)
def conv(i, o):
    return nn.Conv2d(i, o, int(SIDE), padding=1)
class Block(nn.Module):

    def __init__(self, i, o):

        super().__init__()
        self.conv = conv(i, o)  # one

    def forward(self, x):
        return torch.relu(self.conv(x))

# the whole
class Net(nn.Module):

    def __init__(self, width=8):
        super().__init__()

        self.a, self.b = Block(3, width), Block(width, width)
        self.c = nn.Conv2d(width, 5, 1)



    def forward(self, x):
        return self.c(self.b(self.a(x)))




def net(): return Net()
"""


def written(folder: Path, name: str, text: str) -> str:
    (folder / f"{name}.py").write_text(text, "utf-8")
    author = importlib.import_module(name).net
    model = author()
    model.a.conv, model.b.conv = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
    model.c = nn.Conv2d(4, 5, 1)
    found = write(model, Entry(author, name="net")).text
    assert load(found, folder).net().b.conv.in_channels == 4
    return re.sub(r'\A"""(?s:.)*?"""\n\n', "", found)


@pytest.mark.parametrize("head", list(HEADS))
def test_only_the_number_is_another(folder: Path, head: str) -> None:
    name = f"layout_{head.replace(' ', '_')}"
    expected = HEADS[head].replace("from torch import nn; import torch", "from torch import nn\nimport torch")
    assert written(folder, name, HEADS[head] + BODY) == expected + BODY.replace("width=8", "width=4")


def test_imports_that_nothing_needs_go_with_their_comments(folder: Path) -> None:
    head = "# whose it is\nimport json\n# another\nimport re, os\nfrom math import pi, tau, sqrt\n\n"
    head += "import sys\nimport torch\nfrom torch import nn\n"
    text = written(folder, "layout_gone", head + BODY)
    body = BODY.replace("width=8", "width=4")
    kept = "# another\nimport os\nfrom math import pi, sqrt\n\nimport sys\nimport torch\nfrom torch import nn\n\n"
    assert text.endswith(kept + body)
