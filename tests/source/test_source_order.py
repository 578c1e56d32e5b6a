"""Where names come from: what stands first in a written file, star imports, imports for type checkers only."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_source_collections import HEAD, written

from secateur.pruners.source.file.order import at_once, in_order

PLAIN = """from torch import nn


class Plain(nn.Module):
    def __init__(self, block, widths=(4, 6)):
        super().__init__()
        self.stages = nn.Sequential(*[block(i, o) for i, o in zip((3, *widths), widths)])

    def forward(self, x):
        return self.stages(x)
"""
FANCY = """{head}
from .plain import Plain


class Gate(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.conv = nn.Conv2d(i, o, 1)

    def forward(self, x):
        return torch.sigmoid(self.conv(x))


def _make() -> {note}:
    return Plain(Gate)


def Net() -> {note}:
    return _make()
"""


@pytest.mark.parametrize(
    ("head", "note"), [("", "Plain"), ("", '"Plain"'), ("from __future__ import annotations\n", "Plain")]
)
def test_a_class_stands_before_the_annotations_that_name_it(folder: Path, head: str, note: str) -> None:
    text = written(folder, {"net": head + FANCY.format(head=HEAD, note=note), "plain": PLAIN})
    assert text.index("class Plain") < text.index("def Net")
    assert ("from __future__" in text) is bool(head)


@pytest.mark.parametrize(
    ("code", "read", "called"),
    [
        ("def f(x: A = b, *, y: C = d.e) -> G:\n    return h(x)\n", {"A", "C", "G", "b", "d", "d.e"}, set()),
        ("@register(name)\nclass A(B, metaclass=M):\n    x: T = make()\n    def f(self):\n        return g()\n",
         {"register", "name", "B", "M", "T", "make", "x"}, {"register", "make"}),
        ("TABLE = {'a': lambda x=first: last, 'b': [B(i) for i in rows]}\n",
         {"TABLE", "first", "B", "i", "rows"}, {"B"}),
    ],
)  # fmt: skip
def test_what_is_read_while_a_file_is_imported(code: str, read: set[str], called: set[str]) -> None:
    assert at_once(code, notes=True).read == read
    assert at_once(code, notes=True).called == called


def test_annotations_that_are_put_off_are_not_read() -> None:
    assert at_once("def f(x: A = b) -> C:\n    y: D = 1\n", notes=False).read == {"b"}


def test_what_is_called_at_once_stands_behind_all_that_it_uses() -> None:
    uses = {"table": {"make"}, "make": {"A"}, "A": {"base"}, "base": set(), "B": {"A"}}
    assert in_order(["table", "make", "B", "A", "base"], {"table": {"make"}}, {"table": {"make"}}, uses) == [
        "make", "A", "base", "table", "B",
    ]  # fmt: skip


BODY = """

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = Block(3, 4)
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, x):
        return self.last(self.first(x))

    def scores(self, x):
        return torch.softmax(self(x), 1)
"""
BLOCK = """

class Block(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, 1)

    def forward(self, x):
        return F.relu(self.conv(x))
"""


@pytest.mark.parametrize("star", ["from .blocks import *", "from .blocks import *\nfrom torch.nn import *"])
def test_names_of_torch_that_a_star_brings_stay_as_they_are_written(folder: Path, star: str) -> None:
    text = written(folder, {"net": star + BODY, "blocks": HEAD + BLOCK})
    assert "def scores(self, x):\n        return torch.softmax(self(x), 1)" in text
    assert "class Net(nn.Module)" in text and "nn.Conv2d(4, 2, 1)" in text


def test_names_behind_a_star_import_of_torch_stay_short(folder: Path) -> None:
    text = written(folder, {"net": HEAD + "from torch.nn import *\n" + BLOCK + BODY.replace("nn.Conv2d", "Conv2d")})
    assert "self.last = Conv2d(4, 2, 1)" in text and "self.conv = nn.Conv2d(cin, cout, 1)" in text


@pytest.mark.parametrize(
    ("guarded", "kept"),
    [
        ("    from nowhere import Size\n", "    from nowhere import Size\n"),
        ("    import nowhere\n    from collections.abc import Sequence\n    Size = nowhere.Size | Sequence\n",
         "if TYPE_CHECKING:\n    Size = nowhere.Size | Sequence\n"),
    ],
)  # fmt: skip
def test_what_only_type_checkers_import_stays_under_its_condition(folder: Path, guarded: str, kept: str) -> None:
    head = f"from __future__ import annotations\nfrom typing import TYPE_CHECKING\n{HEAD}\nif TYPE_CHECKING:\n{guarded}"
    net = head + BLOCK + BODY.replace("def scores(self, x)", "def scores(self, x: Size) -> Size")
    text = written(folder, {"net": net})
    assert kept in text and "def scores(self, x: Size) -> Size" in text


def test_an_import_that_another_file_needs_for_real_is_no_longer_for_checkers(folder: Path) -> None:
    head = "from __future__ import annotations\nfrom typing import TYPE_CHECKING\n"
    blocks = (
        head + HEAD + "if TYPE_CHECKING:\n    from collections import Counter\n" + BLOCK.replace("x):", "x: Counter):")
    )
    net = (
        "from collections import Counter\n"
        + HEAD
        + "from .blocks import Block\n"
        + BODY.replace("torch.softmax(self(x), 1)", "Counter()")
    )
    text = written(folder, {"net": net, "blocks": blocks})
    assert text.count("import Counter") == 1 and "TYPE_CHECKING" not in text
