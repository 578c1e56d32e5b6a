"""Comments of a constructor stay where the author put them, also around what changes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from test_source_collections import HEAD, package

from secateur import prune
from secateur.pruners.source import Entry, write_source

NET = """

class Net(nn.Module):
    def __init__(  # arguments
        self,
        # nothing else
    ):  # end of them
        # first
        super().__init__()
        self.conv = nn.Conv2d(  # a layer
            3,  # colours
            8,  # maps
            3,
            padding=1,  # all around
            # no bias?
        )  # done
        self.last = nn.Sequential(
            nn.Conv2d(8, 2, 1),  # small
            # an activation
            nn.ReLU(),
        )
        # last words

    # what it computes
    def forward(self, x):
        return self.last(self.conv(x))
"""


def test_comments_stay_where_a_width_changes(folder: Path) -> None:
    made = package(folder, {"net": HEAD + NET}).Net
    net = made()
    for layer, name in ((net.conv, "out_channels"), (net.last[0], "in_channels")):
        setattr(layer, name, 5)
    net.conv.weight.data, net.conv.bias.data = net.conv.weight.data[:5], net.conv.bias.data[:5]
    net.last[0].weight.data = net.last[0].weight.data[:, :5]
    text = write_source(net, Entry(made, {}, "Net"))
    assert "            5,  # maps\n" in text
    assert re.findall("#.*", text) == re.findall("#.*", NET)


def test_a_hook_on_a_parameter_stays(folder: Path) -> None:
    line = "        self.conv.weight.register_hook(lambda g: g * 0.0)\n"
    net = NET.replace("        # last words\n", line)
    made = package(folder, {"net": HEAD + net}).Net
    assert line in write_source(made(), Entry(made, {}, "Net"))


ABOVE = """

# -- layers ---------------------------------------------------------------


# three by three
def conv(width):
    return nn.Conv2d(3, width, 3)


# of nobody
OLD = 3


##############
# the network
##############

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = conv(8)
        self.last = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        return self.last(self.stem(x))
    # the last word


# print(Net())
"""


def test_comments_between_definitions_stay_above_what_they_stood_above(folder: Path) -> None:
    made = package(folder, {"net": HEAD + ABOVE}).Net
    net = made()
    net.stem.out_channels = net.last.in_channels = 5
    net.stem.weight.data, net.stem.bias.data = net.stem.weight.data[:5], net.stem.bias.data[:5]
    net.last.weight.data = net.last.weight.data[:, :5]
    text = write_source(net, Entry(made, {}, "Net"))
    assert text.split("from torch import nn\n")[1] == ABOVE.replace("(8)", "(5)").replace("(8, 2", "(5, 2")


HEADERS = """

class Net(nn.Module):
    def __init__(
        self,
        colours=3,  # RGB
        width=8,  # of the layers
        *,
        bias=True,  # everywhere
    ):  # sizes
        super().__init__()
        self.a = nn.Conv2d(colours, width, 3, bias=bias)
        self.b = nn.Conv2d(width, {wide}, 3, bias=bias)
        self.c = nn.Conv2d({wide}, 2, 1)

    def forward(self, x):
        return self.c(self.b(self.a(x)))
"""


@pytest.mark.parametrize(("wide", "skip", "left"), [("width", (), 4), ("width * 3", ("a",), 3)])
def test_comments_at_arguments_stay_where_a_default_changes_or_an_argument_goes(
    folder: Path, wide: str, skip: tuple[str, ...], left: int
) -> None:
    text = HEADERS.format(wide=wide)
    bundle = prune(package(folder, {"net": HEAD + text}).Net(), torch.randn(1, 3, 9, 9), ratio=0.5, skip=skip)
    found = re.findall("#.*", bundle.source)
    assert found == [c for c in re.findall("#.*", text) if left == 4 or "layers" not in c or c in bundle.source]
    assert len(found) >= left
