"""Records that a class keeps beside its layers, and tables at the top of its file: what they say of widths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from source_helpers import load

from secateur.pruners.base import BasicPruning
from secateur.pruners.bundle import Bundle
from secateur.pruners.bundle.folder import import_file
from secateur.pruners.costs import Budget
from secateur.pruners.search import SearchSettings, search
from secateur.pruners.source import Entry

HEAD = "import argparse\nimport collections\nimport dataclasses\n\nimport torch\nfrom torch import nn\n\n\n"


def half_gone(folder: Path, text: str, skip: tuple[str, ...] = ()) -> tuple[Bundle, Any, str]:
    """Half of every width of ``make()`` gone but of those skipped: the bundle, the written network, its text."""
    (folder / "author.py").write_text(HEAD + text)
    module = import_file(folder / "author.py")
    torch.manual_seed(0)
    pruner = BasicPruning(module.make(), torch.randn(2, 6), entry=Entry(module.make, {}, "make", "it"), skip=skip)
    settings = SearchSettings(strategy="uniform", budget=Budget("ratio", 0.5))
    bundle = pruner.publish(pruner.plan(search(pruner.model, pruner.graph, settings).kept), folder / "out")
    written = (folder / "out/model.py").read_text()
    return bundle, load(written, folder).make(), written


NET = '''
class Net(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        self.embed = nn.Linear(6, cfg.dim)
        self.up = nn.Linear(cfg.dim, {up})
        self.down = nn.Linear({up}, cfg.dim)
        self.out = nn.Linear(cfg.dim, cfg.classes)

    def forward(self, x):
        x = self.embed(x){scale}
        return self.out(x + self.down(self.up(x).relu()))

    def head(self):
        return nn.Linear(self.cfg.dim, 2)


def make():
    return Net({cfg})
'''
CLASS = "@dataclasses.dataclass\nclass Cfg:\n    dim: int = 16\n    classes: int = 5\n\n"
KINDS = {
    "dataclass": (CLASS, "Cfg()"),
    "namedtuple": ('Cfg = collections.namedtuple("Cfg", ["dim", "classes"])\n', "Cfg(16, 5)"),
    "namespace": ("", "argparse.Namespace(dim=16, classes=5)"),
}


@pytest.mark.parametrize(("made", "cfg"), KINDS.values(), ids=KINDS)
def test_a_record_says_the_width_that_most_places_have_and_the_others_get_a_number(
    tmp_path: Path, made: str, cfg: str
) -> None:
    bundle, net, written = half_gone(tmp_path, made + NET.format(up="cfg.dim", scale="", cfg=cfg), ("up",))
    assert (net.up.out_features, net.embed.out_features, net.cfg.dim) == (16, 8, 8)
    assert "self.up = nn.Linear(cfg.dim, 16)\n" in written and not bundle.summary["stale"]


def test_a_record_that_forward_computes_with_stays_as_it_was_and_is_told(tmp_path: Path) -> None:
    text = NET.format(up="4 * cfg.dim", scale=" * self.cfg.dim ** 0.5", cfg="Cfg()")
    bundle, net, _ = half_gone(tmp_path, CLASS + text)
    assert (net.cfg.dim, net.embed.out_features, bundle.summary["stale"]) == (16, 8, ("Net.cfg.dim",))


@pytest.mark.parametrize("skip", [(), ("up",)], ids=["that stays", "that is written out"])
@pytest.mark.parametrize(("made", "cfg"), KINDS.values(), ids=KINDS)
def test_a_record_that_a_constructor_keeps_says_what_the_layers_have(
    tmp_path: Path, made: str, cfg: str, skip: tuple[str, ...]
) -> None:
    bundle, net, _ = half_gone(tmp_path, made + NET.format(up="32", scale="", cfg=cfg), skip)
    assert (net.cfg.dim, net.cfg.classes, net.head().in_features) == (8, 5, 8)
    assert (bundle.summary["stale"], bundle.summary["lost"]) == ((), ())


BLOCKS = '''
class Block(nn.Module):
    def __init__(self, spec):
        super().__init__()
        self.spec = spec
        self.a = nn.Linear(spec["cin"], spec["mid"])
        self.b = nn.Linear(spec["mid"], spec["cout"])
        if spec["cin"] != spec["cout"]:
            self.short = nn.Linear(spec["cin"], spec["cout"])

    def forward(self, x):
        cin, cout = self.spec["cin"], self.spec["cout"]
        y = self.b(self.a(x).relu())
        return y + x if cin == cout else y + self.short(x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(6, STEM)
        self.blocks = nn.ModuleList()
        for cin, cout in WIDTHS:
            self.blocks.append(Block(dict(cin=cin, mid=2 * cin, cout=cout)))
            self.blocks.append(Block(dict(cin=cout, mid=2 * cout, cout=cout)))
        self.fc = nn.Linear(WIDTHS[-1][1], LAST)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.fc(x)


WIDTHS = [(8, 12), (12, 16)]
STEM, LAST = 8, 5


def last():
    return nn.Linear(LAST, 2)


def stem():
    return nn.Linear(STEM, 2)


def make():
    return Net()
'''


@pytest.mark.parametrize("skip", [(), ("blocks.0.a",)], ids=["where the loop stays", "where the loop goes"])
def test_records_of_blocks_follow_where_forward_only_compares_them(tmp_path: Path, skip: tuple[str, ...]) -> None:
    _, net, text = half_gone(tmp_path, BLOCKS, skip)
    for block in net.blocks:
        spec = {"cin": block.a.in_features, "mid": block.a.out_features, "cout": block.b.out_features}
        assert block.spec == spec
    assert BLOCKS.partition("class Net")[0].strip() in text


def test_a_statement_with_two_names_at_the_top_stays_once_and_follows(tmp_path: Path) -> None:
    bundle, _, text = half_gone(tmp_path, BLOCKS)
    assert text.count("STEM, LAST = 4, 5") == 1
    assert [line.partition(" (")[0] for line in bundle.summary["lost"]] == ["stem"]
    assert bundle.summary["stale"] == ()


def test_a_number_at_the_top_that_no_written_layer_reads_any_more_is_told(tmp_path: Path) -> None:
    bundle, _, text = half_gone(tmp_path, BLOCKS, ("blocks.0.a",))
    assert "STEM, LAST = 8, 5" in text
    line = (HEAD + BLOCKS).split("\n").index("STEM, LAST = 8, 5") + 1
    assert f"STEM (line {line})" in bundle.summary["stale"]


PARSED = '''
class Pair(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.a = nn.Linear(cin, 2 * cout)
        self.b = nn.Linear(2 * cout, cout)

    def forward(self, x):
        return self.b(self.a(x).relu())


def parsed(widths):
    layers, c = [], 6
    for i, width in enumerate(widths):
        layer = Pair(c, width)
        layer.i, layer.width, layer.np = i, width, sum(p.numel() for p in layer.parameters())
        layers.append(layer)
        c = width
    return nn.Sequential(*layers, nn.Linear(c, 5))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = parsed([8, 12])

    def forward(self, x):
        return self.model(x)


def make():
    return Net()
'''


@pytest.mark.parametrize("skip", [(), ("model.0.a",)], ids=["where the loop stays", "where the loop goes"])
def test_numbers_that_a_parser_puts_on_layers_are_those_of_the_written_ones(
    tmp_path: Path, skip: tuple[str, ...]
) -> None:
    bundle, net, _ = half_gone(tmp_path, PARSED, skip)
    for i, layer in enumerate(net.model[:2]):
        count = sum(p.numel() for p in layer.parameters())
        assert (layer.i, layer.width, layer.np) == (i, layer.b.out_features, count)
    assert bundle.summary["stale"] == ()
