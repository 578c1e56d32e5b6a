"""The pruner classes of the bundled networks."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch

from secateur.models import registry
from secateur.pruners import base

MODULES = sorted({arch.home for arch in registry.ARCHS.values()})


@pytest.mark.parametrize("module", MODULES)
def test_every_bundled_network_has_a_pruner_in_a_file_of_the_same_name(module: str) -> None:
    home = importlib.import_module(f"secateur.pruners.{module.rpartition('.')[2]}")
    pruner = base.PRUNERS[module]
    assert pruner.__module__ == home.__name__
    assert issubclass(pruner, base.BasicPruning)
    assert pruner.__doc__ != base.BasicPruning.__doc__


def test_no_pruner_is_registered_for_a_network_that_is_not_there() -> None:
    names = {Path(m.replace(".", "/") + ".py") for m in base.PRUNERS if m.startswith("models.")}
    root = Path(__file__).parents[2]
    assert [n for n in names if not (root / n).is_file()] == []


def test_a_pruner_names_what_it_produces() -> None:
    from secateur.pruners.resnet import ResNetPruning

    pruner = ResNetPruning(registry.create("resnet20"), torch.zeros(1, 3, 32, 32))
    assert pruner.fileName == "model.py"
    assert pruner.netName == "res_net"


def test_shortcuts_that_pad_share_channels_across_stages_and_projections_do_not() -> None:
    from secateur.pruners.resnet import ResNetPruning

    x = torch.zeros(1, 3, 32, 32)
    padded, projected = (ResNetPruning(registry.create("resnet20", shortcut=s), x).graph for s in "AB")
    assert padded.width("conv1").producers == ("conv1", *(f"layer{s}.{b}.conv2" for s in (1, 2, 3) for b in range(3)))
    assert set(projected.width("conv1").producers) == {"conv1", *(f"layer1.{b}.conv2" for b in range(3))}


def test_expansion_and_depthwise_convolution_share_a_width() -> None:
    from secateur.pruners.mobilenetv2 import MobileNetV2Pruning

    graph = MobileNetV2Pruning(registry.create("mobilenetv2"), torch.zeros(1, 3, 32, 32)).graph
    assert graph.width("blocks.1.conv1").producers == ("blocks.1.conv1", "blocks.1.conv2")


def test_each_convolution_of_a_fire_module_has_a_width_of_its_own() -> None:
    from secateur.pruners.squeezenet import SqueezeNetPruning

    graph = SqueezeNetPruning(registry.create("squeezenet"), torch.zeros(1, 3, 32, 32)).graph
    assert all(len(w.producers) == 1 for w in graph.widths)
    assert len(graph.widths) == 1 + 3 * 8
