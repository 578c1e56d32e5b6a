"""The function that the user named: it stays as its author wrote it, or gets another call of the network's class."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from source_helpers import beside_arguments, load
from torch import nn

from secateur import prune
from secateur.commands.show.tables import outcome
from secateur.pruners.bundle import Bundle
from secateur.pruners.source import Entry

_NUMBER = count(1)
NET = '''import torch
from torch import nn

URLS = {{"small": "no_such_folder/small.pth"}}
NOTED = []


def noted(function):
    NOTED.append(function.__name__)
    return function


class Block(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.a, self.b = nn.Conv2d(cin, cout, 3, padding=1), nn.Conv2d(cout, cout, 1)

    def forward(self, x):
        return self.b(self.a(x).relu()).relu()


class Net(nn.Module):
    def __init__(self, block, widths, classes=5, channels=3):
        super().__init__()
        self.stages = nn.Sequential(block(channels, widths[0]))
        for cin, cout in zip(widths, widths[1:]):
            self.stages.append(block(cin, cout))
        self.fc = nn.Linear(widths[-1], classes)

    def forward(self, x):
        return self.fc(self.stages(x).mean((2, 3)))


def make(block, widths, pretrained=None, **kwargs):
    """Any of them."""
    net = Net(block, widths, **kwargs)
    if pretrained:
        net.load_state_dict(torch.load(URLS[pretrained]))
    return net


{factory}
'''


def halved(folder: Path, factory: str, uneven: bool = False, **arguments: Any) -> tuple[Bundle, str, nn.Module]:
    """The bundle of ``small(**arguments)`` with half of its channels, the written file, and its network. ``uneven``:
    one layer keeps all."""
    name = f"factories{next(_NUMBER)}"
    (folder / f"{name}.py").write_text(NET.format(factory=factory))
    importlib.invalidate_caches()
    torch.manual_seed(0)
    made = importlib.import_module(name).small
    skip = ("stages.0.a",) if uneven else ()
    example = torch.randn(2, 3, 8, 8)
    net = made(**arguments).eval()
    bundle = prune(net, example, ratio=0.5, skip=skip, entry=Entry(made, arguments, "small"), output=folder / "out")
    assert isinstance(bundle, Bundle)
    assert bundle.summary["verified"]
    text = bundle.file.read_text()
    twin: nn.Module = load(text, folder).small()
    twin.load_state_dict(torch.load(folder / "out/weights.pth", weights_only=True))
    return bundle, text, twin


BESIDE = ("URLS (line 4)", "make (line 34)")  # nothing in the written file reads them
PLAIN = '''def small(classes=5, pretrained=False, **kwargs):
    """The small one.

    Args:
        classes (int): how many.
        pretrained (bool): with weights.
    """
    # two stages
    net = Net(Block, {widths}, classes, **kwargs)
    if pretrained:
        net.load_state_dict(torch.load(URLS["small"]))
    return net'''
ONE = PLAIN.format(widths="[8, 24]")
ALWAYS = ONE.replace("    if pretrained:\n    ", "").replace('torch.load(URLS["small"])', "{}, strict=False")


@pytest.mark.parametrize("uneven", [False, True], ids=["halved", "with a layer left alone"])
def test_one_that_always_loads_weights_is_written_without_them(folder: Path, uneven: bool) -> None:
    bundle, text, _ = halved(folder, ALWAYS, uneven)
    assert "load_state_dict" not in text.split('"""', 2)[2] and "class Net" in text
    assert set(bundle.summary["lost"]) >= {"small(pretrained)", "small(kwargs)"}
    assert json.loads((folder / "out/summary.json").read_text())["loads"] == []


def test_one_whose_network_is_changed_later_by_old_numbers_is_written_anew(folder: Path) -> None:
    late = '''def small(widths=(8, 24)):
    net = Net(Block, widths)
    net.fc = nn.Linear(24, 5)
    return net'''
    _, text, twin = halved(folder, late, uneven=True)
    assert text.endswith("def small():\n    return Net()\n")
    assert twin.get_submodule("fc").in_features == 12


@pytest.mark.parametrize(("factory", "kept"), [
    pytest.param(ONE, PLAIN.format(widths="[4, 12]"), id="that can load weights"),
    pytest.param("@noted\n" + ONE, PLAIN.format(widths="[4, 12]"), id="that is noted somewhere"),
    pytest.param("def small(**kwargs):\n    return make(Block, [8, 24], **kwargs)  # by the other",
                 "def small(**kwargs):\n    return make(Block, [4, 12], **kwargs)  # by the other", id="by a helper"),
    pytest.param("def small(width=8):\n    return Net(Block, (width, 3 * width))",
                 "def small(width=4):\n    return Net(Block, (width, 3 * width))", id="with a width of its own"),
])  # fmt: skip
def test_a_factory_stays_but_for_numbers(folder: Path, factory: str, kept: str) -> None:
    bundle, text, _ = halved(folder, factory)
    assert text.endswith(f"\n\n\n{kept}\n")
    assert "    def __init__(self, block, widths, classes=5, channels=3):\n" in text
    assert bundle.summary["lost"] == (("NOTED (line 5)", "noted (line 8)") if factory.startswith("@noted") else ())
    assert "loading" not in text
    names = ["make", *(["small"] if "load_state_dict" in factory else [])]
    assert list(bundle.summary["loads"]) == names
    told = [str(line) for line in outcome(bundle)][-1]
    assert told == f"{', '.join(names)} can load weights, which are of the widths before (loads in summary.json)"


CALLS: Mapping[str, tuple[str, str]] = {
    "and docstring, comment and options stay": (ONE, ONE.replace("Net(Block, [8, 24], classes", "Net(classes")),
    "and what only made its arguments goes": (
        '''def small(width: int = 8, classes: int = 7) -> Net:
    """The small one.

    Args:
        width: of the first stage.
    """
    widths = [width, 3 * width]
    # as in the paper
    net = Net(Block, widths, classes=classes)
    nn.init.zeros_(net.fc.bias)
    return net  # untrained''',
        '''def small(classes: int = 7) -> Net:
    """The small one."""
    # as in the paper
    net = Net(classes=classes)
    nn.init.zeros_(net.fc.bias)
    return net  # untrained''',
    ),
}


@pytest.mark.parametrize("form", CALLS)
def test_a_factory_gets_another_call_where_widths_differ(folder: Path, form: str) -> None:
    factory, kept = CALLS[form]
    _, text, twin = halved(folder, factory, uneven=True)
    assert text.endswith(f"\n\n\n{kept}\n")
    assert twin.get_submodule("stages.0.a").out_channels == 8


@pytest.mark.parametrize("uneven", [False, True], ids=["halved", "with a layer left alone"])
def test_arguments_that_a_factory_only_hands_on_become_defaults_of_the_class(folder: Path, uneven: bool) -> None:
    factory = "def small(pretrained=False, **kwargs):\n    net = Net(Block, [8, 24], **kwargs)\n    return net"
    bundle, text, twin = halved(folder, factory, uneven, classes=7)
    assert text.endswith(f"\n{factory.replace('Block, [8, 24], ', '' if uneven else 'Block, ')}\n")
    assert twin.get_submodule("fc").out_features == 7
    assert beside_arguments(bundle.summary["lost"]) == [*BESIDE]


@pytest.mark.parametrize("uneven", [False, True], ids=["halved", "with a layer left alone"])
def test_arguments_that_the_network_was_made_with_become_defaults(folder: Path, uneven: bool) -> None:
    factory = "def small(widths, *, classes: int = 5, channels=3):\n    return Net(Block, widths, classes, channels)"
    bundle, text, twin = halved(folder, factory, uneven, widths=[8, 24], classes=7)
    first, inner = ("*, ", "") if uneven else ("widths=[4, 12], *, ", "Block, widths, ")
    kept = f"def small({first}classes: int = 7, channels=3):\n    return Net({inner}classes, channels)\n"
    assert text.endswith(kept)
    assert twin.get_submodule("fc").out_features == 7
    assert beside_arguments(bundle.summary["lost"]) == (["small(widths)", *BESIDE] if uneven else [])
