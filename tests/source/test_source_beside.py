"""What stands in the author's file beside the network: it stays where it still works, or is told by name and line."""

from __future__ import annotations

import importlib
from itertools import count
from pathlib import Path
from types import ModuleType

import pytest
from source_helpers import load
from torch import nn

from secateur.pruners.entry import Entry
from secateur.pruners.source.writer import Written, write

_NUMBER = count(1)
NET = '''import os
from dataclasses import dataclass
from typing import Union

import torch
from torch import nn

__all__ = ["Net", "make", "other"]
{before}


class Net(nn.Module):
    def __init__(self, widths=(8, 8)):
        super().__init__()
        self.first = nn.Linear(3, widths[0])
        self.second = nn.Linear(widths[0], widths[1])
        self.last = nn.Linear(widths[1], 5)

    def forward(self, x):
        return self.last(self.second(self.first(x)))


def make():
    return Net()


{after}
'''


def written(folder: Path, before: str = "", after: str = "", entry: str = "make") -> tuple[Written, ModuleType]:
    name = f"beside{next(_NUMBER)}"
    (folder / "own_tools.py").write_text("def shown(x):\n    return x\n")
    (folder / f"{name}.py").write_text(NET.format(before=before, after=after))
    importlib.invalidate_caches()
    author = importlib.import_module(name).make
    net = author()
    net.first, net.second, net.last = nn.Linear(3, 4), nn.Linear(4, 6), nn.Linear(6, 5)
    found = write(net, Entry(author, name=entry))
    made = load(found.text, folder)
    assert getattr(made, entry)().get_submodule("second").out_features == 6
    return found, made


GONE = {
    "another network of the changed class": ("", "def other():\n    return Net()", "other"),
    "what runs while the file is imported": ("SEEN = [print('once')]", "", "SEEN"),
    "a call that makes nothing": ("os.umask(os.umask(0))", "", "os.umask(os.umask(0))"),
    "what uses a network that is gone": ("", "def old():\n    return Net((3, 2)).train(os.sep == 0)", "old"),
    "what the script part does with the class": (
        "", "if __name__ == '__main__':\n    print(Net((9, 9)))", "if __name__"),
    "what needs a file that nothing else does": ("import own_tools", "def shown(x):\n    return own_tools.shown(x)",
                                                 "shown"),
}  # fmt: skip


@pytest.mark.parametrize("form", GONE)
def test_what_would_be_another_thing_is_told(folder: Path, form: str) -> None:
    before, after, name = GONE[form]
    text = NET.format(before=before, after=after)
    line = text.splitlines().index((after or before).split("\n")[0]) + 1
    found, made = written(folder, before, after)
    assert found.lost == (f"{name} (line {line})",)
    assert not hasattr(made, name) and "own_tools" not in found.text


STAYS = {
    "another factory": ("", "def other():\n    return Net((16, 8))"),
    "a table": ('SIZES = {"small": 1}', ""),
    "a name of a type": ("Size = Union[int, tuple]", ""),
    "options of something else": ("@dataclass\nclass Training:\n    rate: float = 0.1", ""),
    "a function for any network": ("", "def count(net):\n    return sum(p.numel() for p in net.parameters())"),
    "a layer that isn't used": ("", "class Twice(nn.Module):\n    def forward(self, x):\n        return 2 * x"),
    "a device, and a loss": ("DEVICE = torch.device('cpu')\nloss = nn.CrossEntropyLoss()", ""),
    "what needs a package": ("import numpy as np", "def shown(x):\n    return np.asarray(x)"),
    "the script part": ("", "if __name__ == '__main__':\n    print(make()(torch.zeros(1, 3)))"),
    "a note that is a text by itself": ('"""After a network of somebody else\'s."""\nSIZES = {"small": 1}', ""),
}


@pytest.mark.parametrize("form", STAYS)
def test_what_still_works_stays_where_it_stood(folder: Path, form: str) -> None:
    before, after = STAYS[form]
    found, _ = written(folder, before, after)
    assert found.lost == () and f"{before or after}\n" in found.text and f"{after}\n" in found.text
    assert (found.text.index("def make") < found.text.index(after)) if after else True


def test_the_list_of_names_has_those_that_are_there(folder: Path) -> None:
    assert '__all__ = ["Net", "make"]\n' in written(folder)[0].text
    found, _ = written(folder, after="def other():\n    return Net((16, 8))")
    assert '__all__ = ["Net", "make", "other"]\n' in found.text
    assert '__all__ = ["Net", "half"]\n' in written(folder, entry="half")[0].text


def test_what_a_statement_called_stays_where_the_statement_does_not(folder: Path) -> None:
    before = "SEED = 3\n\n\ndef seed(n=SEED):\n    torch.manual_seed(n)\n\n\nseed()"
    found, made = written(folder, before)
    assert [told.split(" (")[0] for told in found.lost] == ["seed()"]
    assert made.SEED == 3 and callable(made.seed)


def test_an_argument_may_have_the_name_of_a_network_that_is_gone(folder: Path) -> None:
    after = "def train(net, x):\n    return net(x)\n\n\nnet = Net((3, 2))"
    found, made = written(folder, after=after)
    assert [told.split(" (")[0] for told in found.lost] == ["net"] and callable(made.train)


def test_what_only_a_script_read_stays_where_the_script_does_not(folder: Path) -> None:
    after = "def count(net):\n    return 1\n\n\ndef main(sizes):\n    print(count(Net(sizes)))"
    found, made = written(folder, after=after)
    assert [name.split()[0] for name in found.lost] == ["main"]
    assert made.count(None) == 1


def test_a_script_stays_that_makes_the_network_by_its_class(folder: Path) -> None:
    text = NET.replace("widths=(8, 8)", "width=8").replace("widths[0]", "width").replace("widths[1]", "width")
    after = "def main():\n    print(Net()(torch.zeros(1, 3)))\n\n\nif __name__ == '__main__':\n    main()"
    (folder / "beside_class.py").write_text(text.format(before="", after=after))
    importlib.invalidate_caches()
    author = importlib.import_module("beside_class").Net
    found = write(author(4), Entry(author, {"width": 4}, "Net"))
    assert after in found.text and found.lost == ("make (line 23)",)  # it makes a wider one
