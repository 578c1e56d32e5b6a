"""A kind of block from outside the package: one file brings the decorator and all its parts."""

from __future__ import annotations

import ghost_block
import pytest
import torch
from declared_graphs import declared_graph, same_groups
from torch import nn

from secateur.pruners.base import PRUNERS
from secateur.pruners.bundle import Bundle
from secateur.pruners.declare import check_kind
from secateur.pruners.errors import DeclarationError
from secateur.pruners.graph import ChannelGraph
from secateur.pruners.trace.trace import trace

X = torch.zeros(1, 3, 8, 8)


@pytest.fixture(scope="module")
def graph() -> ChannelGraph:
    return check_kind(ghost_block.GHOST)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    torch.manual_seed(0)
    pruner = ghost_block.GhostPruning(ghost_block.GhostNet(), X)
    kept = {w.name: range(1, w.size - 1) for w in pruner.graph.widths}
    return pruner.publish(pruner.plan(kept), tmp_path_factory.mktemp("ghost") / "bundle")


def test_a_class_that_is_no_such_block_is_refused_with_class_layer_and_line() -> None:
    @ghost_block.ghost(lType="ghost", convs=["primary", "cheap"])
    class Dense(ghost_block.GhostModule):
        def __init__(self, in_channels: int, out_channels: int) -> None:
            super().__init__(in_channels, out_channels)
            self.cheap = nn.Conv2d(out_channels // 2, out_channels // 2, kernel_size=3, padding=1, bias=False)

    net = ghost_block.GhostNet()
    net.first = Dense(8, 16)
    line = Dense.__init__.__code__.co_firstlineno - 2
    said = r"Dense \(first\) declares that .* of primary and .* of cheap go together, but its forward doesn't"
    with pytest.raises(DeclarationError, match=rf"@ghost at .*test_third_party_block.py:{line}: {said}"):
        _ = ghost_block.GhostPruning(net, X).graph


def test_an_argument_the_kind_does_not_take_is_refused() -> None:
    with pytest.raises(DeclarationError, match="there is no argument downsampling"):
        ghost_block.ghost(lType="ghost", convs=["primary"], downsampling=["x"])


def test_importing_the_file_registers_its_pruner() -> None:
    assert PRUNERS["ghost_block"] is ghost_block.GhostPruning


def test_cheap_filters_are_cut_with_the_primary_ones(graph: ChannelGraph) -> None:
    assert {w.name: (w.size, w.producers) for w in graph.widths} == {
        "stem": (8, ("stem",)),
        "first.primary": (8, ("first.primary", "first.cheap")),
        "second.primary": (12, ("second.primary", "second.cheap")),
    }


def test_declared_and_traced_groups_are_the_same(graph: ChannelGraph) -> None:
    assert same_groups(declared_graph(ghost_block.GhostNet()), graph)
    assert same_groups(trace(ghost_block.GhostNet(), X), graph)


def test_one_group_reaches_both_halves_of_the_next_layers_input(graph: ChannelGraph) -> None:
    uses = {u.slot.parameter: u.index[0].tolist() for u in graph.width("first.primary").uses}
    assert uses["second.primary.weight"] == [0, 8]


def test_the_bundle_is_verified_and_named_by_its_pruner(bundle: Bundle) -> None:
    assert bundle.summary["verified"] is True
    assert (bundle.path / "ghost_net.py").is_file()
    assert bundle.model.first.cheap.groups == 6


def test_the_generated_file_needs_neither_the_decorator_nor_this_package(bundle: Bundle) -> None:
    text = (bundle.path / "ghost_net.py").read_text()
    assert "pruners" not in text
    assert "@ghost" not in text
    assert "BlockKind" not in text


def test_the_kinds_own_writer_has_its_say(bundle: Bundle) -> None:
    assert "# primary channels: first: 6, second: 10" in (bundle.path / "ghost_net.py").read_text()


def test_the_kinds_own_transfer_unit_recomputes_what_slices_cannot(bundle: Bundle) -> None:
    for block in (bundle.model.first, bundle.model.second):
        torch.testing.assert_close(block.energy, block.primary.weight.detach().square().sum())
