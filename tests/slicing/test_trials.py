"""Code that can't follow every plan: what it counts is tied or stays, by name, instead of an error for the user."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from zeroing import zeroed_copy

from secateur.pruners.base import BasicPruning
from secateur.pruners.costs import Budget
from secateur.pruners.errors import NotPrunableError
from secateur.pruners.scratch import import_file
from secateur.pruners.search import SearchSettings, search
from secateur.pruners.verify import oracle
from secateur.pruners.verify.masking import masking

HEAD = "import torch\nfrom torch import nn\n\n\n"
NET = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.fc1, self.fc2, self.n = nn.Linear(6, 5), nn.Linear(6, 5), 6

    def forward(self, x):
"""

ONE_NUMBER = (
    NET
    + """
        x = self.a(x)
        first, second = (t.mean((2, 3)).view(-1, self.n) for t in (x, self.b(x)))
        return self.fc1(first) + self.fc2(second)
"""
)

TABLE = (
    "SCALES = {6: 0.5, 4: 0.25}\n\n\n"
    + NET
    + """
        x = self.a(x)
        y = self.b(x)
        scaled = x.mean((2, 3)) * SCALES[x.shape[1]]
        return self.fc1(scaled) + self.fc2(y.mean((2, 3)))
"""
)

ONE_NUMBER_AND_TABLE = """
SCALES = {9: 0.5, 4: 0.25}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(3, 9, 1)
        self.fc1, self.fc2, self.fc3, self.n = nn.Linear(6, 5), nn.Linear(6, 5), nn.Linear(9, 5), 6

    def forward(self, x):
        z = self.c(x)
        x = self.a(x)
        first, second = (t.mean((2, 3)).view(-1, self.n) for t in (x, self.b(x)))
        third = z.mean((2, 3)) * SCALES[z.shape[1]]
        return self.fc1(first) + self.fc2(second) + self.fc3(third)
"""

UNPACKED = (
    NET
    + """
        x = self.a(x)
        y = self.b(x)
        flat = x.view(*(-1, self.n), *x.shape[2:])
        return self.fc1(flat.mean((2, 3))) + self.fc2(y.mean((2, 3)))
"""
)


LOOP = (
    NET
    + """
        x = self.a(x)
        y = self.b(x)
        parts = torch.cat([x[:, i : i + 2] * (i + 1) for i in range(0, 6, 2)], 1)
        return self.fc1(parts.mean((2, 3))) + self.fc2(y.mean((2, 3)))
"""
)

FOUND = (  # as a detector goes through the boxes that it finds
    NET
    + """
        places = self.fc1(self.b(self.a(x).relu()).mean(2).transpose(1, 2)).flatten(0, 1)
        found = places[places.sum(1) > 0.5]
        for number in torch.where(found[:, 0] > 0)[0].tolist():
            found = found + found[number].sigmoid()
        return found if found.sum().item() > 0.6 else found.tanh()
"""
)


def pruner_of(tmp_path: Path, source: str) -> BasicPruning:
    (tmp_path / "author.py").write_text(HEAD + source)
    model = import_file(tmp_path / "author.py").Net().double()
    oracle.randomise(model, 1)
    return BasicPruning(model.eval(), torch.randn(2, 3, 4, 4, dtype=torch.float64))


def check(pruner: BasicPruning) -> None:
    """Half of every width can go, and what is left computes the zeroed original."""
    kept = search(pruner.model, pruner.graph, SearchSettings("uniform", budget=Budget("ratio", 0.5))).kept
    sliced, zeroed = pruner.slice(kept), zeroed_copy(pruner.model, pruner.graph, kept)
    with torch.no_grad(), masking(pruner.graph, kept):
        expected = zeroed(pruner.example_input)
    assert torch.allclose(pruner.realize(kept)(pruner.example_input), expected, rtol=1e-10, atol=1e-12)
    assert sum(p.numel() for p in sliced.model.parameters()) < sum(p.numel() for p in zeroed.parameters())


def test_two_widths_that_one_number_counts_go_together(tmp_path: Path) -> None:
    pruner = pruner_of(tmp_path, ONE_NUMBER)
    assert [w.name for w in pruner.graph.widths] == ["a"]
    assert "one number counts both" in pruner.graph.why("b")
    check(pruner)


def test_what_was_tied_stays_tied_where_another_place_is_held_later(tmp_path: Path) -> None:
    pruner = pruner_of(tmp_path, ONE_NUMBER_AND_TABLE)
    (width,) = pruner.graph.widths
    assert {use.slot.layer for use in width.uses} == {"a", "b", "fc1", "fc2"}
    assert "KeyError with other widths" in pruner.graph.why("c")
    check(pruner)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (TABLE, "KeyError with other widths"),
        (UNPACKED, "it comes from several unpackings"),
        (LOOP, "one number in the code counts two different widths here"),
    ],
)
def test_channels_that_the_code_cannot_count_otherwise_stay(tmp_path: Path, source: str, reason: str) -> None:
    pruner = pruner_of(tmp_path, source)
    assert [w.name for w in pruner.graph.widths] == ["b"]
    why, *_ = [f for f in pruner.graph.frozen if reason in f.reason]
    assert (Path(why.site.file).name, why.slots[0].layer) == ("author.py", "a")
    check(pruner)


def test_a_place_that_nothing_helps_is_met_by_the_plan(tmp_path: Path) -> None:
    pruner = pruner_of(tmp_path, NET + "\n        assert self.a.out_channels == 6\n        x = self.a(x)\n"
                                       "        return self.fc1(self.b(x).mean((2, 3)))\n")  # fmt: skip
    kept = search(pruner.model, pruner.graph, SearchSettings("uniform", budget=Budget("ratio", 0.5))).kept
    with pytest.raises(NotPrunableError, match=r"the pruned network does not run: AssertionError"):
        pruner.slice(kept)


def test_a_check_against_an_attribute_follows_the_width(tmp_path: Path) -> None:
    head = NET.replace("super().__init__()", "super().__init__()\n        self.width = 6")
    pruner = pruner_of(tmp_path, head + "\n        x = self.a(x)\n        if x.size(1) != self.width:\n"
                                        "            raise ValueError('width')\n"
                                        "        return self.fc1(self.b(x).mean((2, 3)))\n")  # fmt: skip
    assert "a" in {w.name for w in pruner.graph.widths}
    check(pruner)


def test_a_condition_that_would_turn_out_otherwise_holds_the_width(tmp_path: Path) -> None:
    pruner = pruner_of(tmp_path, NET + "\n        x = self.a(x)\n        x = x.relu() if x.shape[1] > 5 else x.tanh()\n"
                                       "        return self.fc1(self.b(x).mean((2, 3)))\n")  # fmt: skip
    assert "a condition turns out otherwise with fewer channels (tanh of line" in pruner.graph.why("a")


def test_what_the_data_decide_is_no_other_way(tmp_path: Path) -> None:
    torch.manual_seed(0)
    pruner = pruner_of(tmp_path, FOUND)
    assert {w.name: w.size for w in pruner.graph.widths} == {"a": 6, "b": 6}
    check(pruner)
