"""What stays as its author wrote it: classes that only get other numbers, and comprehensions whose passes agree."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from forms import pruned

SQUEEZE = """
class Squeeze(nn.Module):
    def __init__(self, c, r=4):
        super().__init__()
        hidden = c // r  # narrow
        self.down, self.up = nn.Linear(c, hidden), nn.Linear(hidden, c)

    def forward(self, x):
        return x * self.up(self.down(x).relu()).sigmoid()
"""
BLOCK = """
class Block(nn.Module):
    def __init__(self, c, bias=True, scale=0.5):
        super().__init__()
        self.linear, self.squeeze = nn.Linear(c, c, bias), Squeeze(c)
        self.scale = scale

    def forward(self, x):
        return x + self.scale * self.squeeze(self.linear(x))
"""
NET = """
class Net(nn.Module):
    def __init__(self, depth=3, widths=(16, 16)):
        super().__init__()
        self.stem, self.head = nn.Linear(5, 16), nn.Linear(16, 3)
        self.blocks = {blocks}

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x).mean(1)
"""


def text_of(folder: Path, blocks: str, skip: tuple[str, ...] = ()) -> str:
    return pruned(folder, SQUEEZE + "\n" + BLOCK + "\n" + NET.replace("{blocks}", blocks), skip)[2]


def test_a_number_that_its_expression_no_longer_gives_is_handed_over(tmp_path: Path) -> None:
    text = text_of(tmp_path, "nn.ModuleList([Block(16) for _ in range(depth)])", skip=("blocks.1.squeeze.down",))
    assert "hidden = c // r  # narrow" in text and "Squeeze(c, r=r)" in text
    assert re.findall(r"Block\(8, .*?\)", text) == ["Block(8, 4)", "Block(8, 2)", "Block(8, 4)"]
    assert "range(depth)" not in text


@pytest.mark.parametrize(("blocks", "kept"), [
    pytest.param("nn.ModuleList([Block(16) for _ in range(depth)])", "nn.ModuleList([Block(8) for _ in range(depth)])",
                 id="a list"),
    pytest.param("nn.ModuleList(Block(16) for _ in range(2))", "nn.ModuleList(Block(8) for _ in range(2))",
                 id="a generator"),
    pytest.param("nn.Sequential(*[Block(16, False) for _ in range(depth)])",
                 "nn.Sequential(*[Block(8, False) for _ in range(depth)])", id="a list handed to a chain"),
    pytest.param("nn.Sequential(*(Block(16) for _ in range(depth - 1)))",
                 "nn.Sequential(*(Block(8) for _ in range(depth - 1)))", id="a generator handed to a chain"),
    pytest.param("nn.ModuleList([nn.Sequential(nn.Linear(16, 16, bias=False), nn.ReLU()) for _ in range(depth)])",
                 "nn.ModuleList([nn.Sequential(nn.Linear(8, 8, bias=False), nn.ReLU()) for _ in range(depth)])",
                 id="layers of torch"),
    pytest.param("nn.ModuleList([Block(16) for width in widths])", "nn.ModuleList([Block(8) for width in widths])",
                 id="over a table that only counts"),
    pytest.param("nn.ModuleList([Block(16, scale=i) for i in range(depth)])",
                 "nn.ModuleList([Block(8, scale=i) for i in range(depth)])", id="with the loop's number"),
    pytest.param("nn.ModuleList([Block(16) for i in range(depth) if i])",
                 "nn.ModuleList([Block(8) for i in range(depth) if i])", id="with a condition"),
    pytest.param("nn.ModuleList([Block(16)] * 2 + [Block(16) for _ in range(2)])",
                 "nn.ModuleList([Block(8)] * 2 + [Block(8) for _ in range(2)])", id="one block twice"),
])  # fmt: skip
def test_a_comprehension_whose_passes_agree_stays(tmp_path: Path, blocks: str, kept: str) -> None:
    assert f"self.blocks = {kept}\n" in text_of(tmp_path, blocks)


def test_a_table_of_widths_gets_other_numbers(tmp_path: Path) -> None:
    text = text_of(tmp_path, "nn.ModuleList([Block(width) for width in widths])")
    assert "nn.ModuleList([Block(width) for width in widths])" in text
    assert "def __init__(self, depth=3, widths=(8, 8)):" in text


def test_classes_that_get_other_numbers_stay_to_the_letter(tmp_path: Path) -> None:
    text = text_of(tmp_path, "nn.ModuleList([Block(16), Block(16, False), Block(16, scale=0.25)])")
    assert SQUEEZE in text
    assert BLOCK in text
    assert "Block(8, scale=0.25)" in text


def test_widths_that_differ_are_handed_to_the_author_s_own_parameters(tmp_path: Path) -> None:
    _, widths, text = pruned(tmp_path, SQUEEZE + "\n" + """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.wide, self.head = nn.Linear(5, 16), nn.Linear(16, 32), nn.Linear(32, 3)
        self.first, self.second = Squeeze(16), Squeeze(32)

    def forward(self, x):
        return self.head(self.second(self.wide(self.first(self.stem(x))))).mean(1)
""", example=torch.randn(2, 7, 5))  # fmt: skip
    assert SQUEEZE in text
    assert "self.first, self.second = Squeeze(8), Squeeze(16)" in text or "self.second = Squeeze(16)" in text
    assert len(widths) == 4


@pytest.mark.parametrize(("statements", "forward", "name", "value"), [
    pytest.param("self.total = 0; self.total += 3", "self.total", "total", 3, id="a number that forward reads"),
    pytest.param("self.sizes = [1]; self.sizes.extend([2, 3])", "self.sizes[-1]", "sizes", [1, 2, 3], id="a list"),
    pytest.param("self.sizes = [1]; heapq.heappush(self.sizes, 2)", "len(self.sizes)", "sizes", [1, 2],
                 id="a list handed to a function"),
    pytest.param("self.rows = [3, 4]; self.rows.pop(0)", "1", "rows", [4], id="a list that shrinks"),
    pytest.param("self.rows = [3, 4]; del self.rows[0]", "1", "rows", [4], id="an entry taken away"),
    pytest.param("self.names = []; self.names.append('x'); self.names.reverse()", "1", "names", ["x"],
                 id="a list that only scripts read"),
    pytest.param("self.seen = [0] * 3\n        for i in range(4):\n            self.seen[i % 3] += 1", "1", "seen",
                 [2, 1, 1], id="entries counted in a loop"),
])  # fmt: skip
def test_an_attribute_changed_after_it_was_set_ends_as_it_did(
    tmp_path: Path, statements: str, forward: str, name: str, value: object
) -> None:
    _, _, text = pruned(tmp_path, f"""
import heapq


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        {statements}
        self.stem, self.head = nn.Linear(5, 16), nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.stem(x).relu() * {forward}).mean(1)
""")
    names: dict[str, Any] = {}
    exec(text, names)
    assert getattr(names["Net"](), name) == value


def test_none_in_a_dictionary_of_layers_stays_none(tmp_path: Path) -> None:
    _, _, text = pruned(tmp_path, """
class Net(nn.Module):
    def __init__(self, skip=False):
        super().__init__()
        self.parts = nn.ModuleDict({"stem": nn.Linear(5, 16), "none": None})
        self.parts["skip"] = nn.Linear(16, 16) if skip else None
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        x = self.parts["stem"](x).relu()
        if self.parts["skip"] is not None:
            x = x + self.parts["skip"](x)
        return self.head(x).mean(1)
""")
    names: dict[str, Any] = {}
    exec(text, names)
    parts = names["Net"]().parts
    assert list(parts) == ["stem", "none", "skip"]
    assert parts["none"] is parts["skip"] is None
    assert "16" not in text.split('"""', 2)[2]


@pytest.mark.parametrize("reads", ["__getattr__ = dict.__getitem__", "__getattr__ = dict.get"])
def test_a_dictionary_whose_keys_are_read_as_attributes_stays_one(tmp_path: Path, reads: str) -> None:
    _, _, text = pruned(tmp_path, f"""
class Settings(dict):
    {reads}
    __setattr__ = dict.__setitem__


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.settings = Settings(act="relu", mlp=Settings(scale=2.0))
        self.stem, self.head = nn.Linear(5, 16), nn.Linear(16, 3)

    def forward(self, x):
        return self.head(getattr(F, self.settings.act)(self.stem(x))).mean(1) * self.settings.mlp.scale
""")
    names: dict[str, Any] = {}
    exec(text, names)
    assert names["Net"]().settings.mlp.scale == 2.0


def test_what_a_parent_sets_and_what_methods_of_the_constructor_set_is_there_for_methods(tmp_path: Path) -> None:
    _, _, text = pruned(tmp_path, """
class Trained(nn.Module):
    def __init__(self):
        super().__init__()
        self.seen = []

    def save(self, **options):
        self.options = options

    def note(self, value):
        self.seen.append(value)


class Net(Trained):
    def __init__(self, lr=0.5):
        super().__init__()
        self.save(lr=lr)
        self.stem, self.head = nn.Linear(5, 16), nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.stem(x).relu()).mean(1)

    def step(self, x):
        self.note(self(x).sum())

    def optimizer(self):
        return torch.optim.SGD(self.parameters(), self.options["lr"])
""")
    names: dict[str, Any] = {}
    exec(text, names)
    made = names["Net"]()
    made.step(torch.randn(2, 7, 5))
    assert len(made.seen) == 1
    assert made.optimizer().defaults["lr"] == 0.5


def test_a_name_of_its_own_stays_with_every_block(tmp_path: Path) -> None:
    _, _, text = pruned(tmp_path, """
class Block(nn.Module):
    count = 0

    def __init__(self, c):
        super().__init__()
        Block.count += 1
        self.label = f"block {Block.count}"
        self.linear = nn.Linear(c, c)

    def forward(self, x):
        return x + self.linear(x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        Block.count = 0
        self.stem, self.first, self.second, self.head = nn.Linear(5, 16), Block(16), Block(16), nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.second(self.first(self.stem(x)))).mean(1)
""")
    names: dict[str, Any] = {}
    exec(text, names)
    made = names["Net"]()
    assert (made.first.label, made.second.label) == ("block 1", "block 2")


def test_attributes_that_methods_set_later_start_as_the_author_has_them(tmp_path: Path) -> None:
    _, _, text = pruned(tmp_path, """
class Net(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        self._place, self.best, self.classes = "cpu", None, classes
        self.loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]))
        self.stem, self.head = nn.Linear(5, 16), nn.Linear(16, classes)

    def forward(self, x):
        return self.head(self.stem(x).relu()).mean(1)

    @property
    def place(self):
        return self._place

    @place.setter
    def place(self, value):
        self._place = value

    def note(self, loss):
        self.best = loss if self.best is None else min(self.best, loss)

    def reset(self, classes):
        self.classes = classes
""")
    names: dict[str, Any] = {}
    exec(text, names)
    made = names["Net"]()
    assert (made.place, made.best, made.classes) == ("cpu", None, 3)
    made.note(2.0)
    assert made.best == 2.0
    assert made.loss.weight.tolist() == [1.0, 2.0, 3.0]
