"""Networks of a public library, written and run in a process that can't import that library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision.models
from source_helpers import body, load
from torchvision.models.convnext import CNBlockConfig

from secateur.pruners.base import BasicPruning
from secateur.pruners.costs import Budget
from secateur.pruners.search import SearchSettings, search
from secateur.pruners.source import Entry, write_source

NETWORKS = {
    "resnet18": 32,
    "mobilenet_v2": 32,
    "squeezenet1_0": 64,
    "densenet121": 32,
    "shufflenet_v2_x0_5": 32,
    "mnasnet0_5": 32,
    "efficientnet_b0": 32,
    "swin_t": 32,
}

CHECK = """
import importlib.util, sys
for name in ("torchvision", "models", "pruners"):
    sys.modules[name] = None
import torch
folder = sys.argv[1]
for name in sys.argv[2:]:
    spec = importlib.util.spec_from_file_location(name, f"{folder}/{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    given = torch.load(f"{folder}/{name}.pt", weights_only=True)
    model = getattr(module, name)().eval()
    assert list(model.state_dict()) == list(given["state"]), name
    model.load_state_dict(given["state"], strict=True)
    with torch.no_grad():
        assert torch.equal(model(given["input"]), given["output"]), name
"""


@pytest.mark.filterwarnings("ignore")
def test_an_identity_round_trip_needs_nothing_but_torch(tmp_path: Path) -> None:
    for name, size in NETWORKS.items():
        factory = getattr(torchvision.models, name)
        model, x = factory().eval(), torch.randn(2, 3, size, size)
        text = write_source(model, Entry(factory, {}, name))
        assert "torchvision" not in {line.split()[1] for line in body(text).splitlines() if line.startswith("from ")}
        (tmp_path / f"{name}.py").write_text(text)
        with torch.no_grad():
            given = {"state": model.state_dict(), "input": x, "output": model(x)}
        torch.save(given, tmp_path / f"{name}.pt")
    command = [sys.executable, "-c", CHECK, str(tmp_path), *NETWORKS]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.filterwarnings("ignore")
def test_writing_a_written_network_again_changes_nothing(tmp_path: Path) -> None:
    name = "mobilenet_v3_small"
    text = write_source(getattr(torchvision.models, name)(), Entry(getattr(torchvision.models, name), {}, name))
    again = getattr(load(text, tmp_path), name)
    assert body(write_source(again(), Entry(again, {}, name))) == body(text)


@pytest.mark.filterwarnings("ignore")
def test_helper_functions_stay_in_use(tmp_path: Path) -> None:
    factory = torchvision.models.resnet50
    text = write_source(factory(), Entry(factory, {}, "resnet50"))
    assert "self.conv1 = conv1x1(inplanes, width)\n" in text
    assert "self.conv2 = conv3x3(width, width, stride, groups, dilation)\n" in text
    assert "self.conv3 = conv1x1(width, planes * self.expansion)\n" in text


# -- pruned by half, verified in a process without the library, a step in training mode included

FAMILIES: dict[str, tuple[dict[str, Any], int]] = {
    "resnet18": ({}, 32),
    "googlenet": ({"init_weights": False}, 64),
    "mobilenet_v3_small": ({}, 32),
    "squeezenet1_0": ({}, 64),
    "densenet121": ({}, 32),
    "shufflenet_v2_x0_5": ({}, 32),
    "mnasnet0_5": ({}, 32),
    "efficientnet_b0": ({}, 32),
    "regnet_y_400mf": ({}, 32),
    "ConvNeXt": ({"block_setting": [CNBlockConfig(16, 32, 2), CNBlockConfig(32, None, 1)]}, 32),
    "SwinTransformer": (
        {"patch_size": [4, 4], "embed_dim": 24, "depths": [2, 2], "num_heads": [2, 4], "window_size": [4, 4],
         "num_classes": 10},
        32,
    ),
    "VisionTransformer": (
        {"image_size": 32, "patch_size": 16, "num_layers": 2, "num_heads": 4, "hidden_dim": 32, "mlp_dim": 64,
         "num_classes": 10},
        32,
    ),
    "MaxVit": (
        {"input_size": (64, 64), "stem_channels": 16, "partition_size": 2, "block_channels": [16, 32],
         "block_layers": [1, 1], "head_dim": 8, "stochastic_depth_prob": 0.1, "num_classes": 10},
        64,
    ),
    "lraspp_mobilenet_v3_large": ({"weights_backbone": None}, 64),
    "fcn_resnet50": ({"weights_backbone": None, "aux_loss": True}, 64),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FAMILIES)
def test_half_of_every_width_goes(name: str, tmp_path: Path) -> None:
    arguments, size = FAMILIES[name]
    homes = (torchvision.models, torchvision.models.segmentation)
    factory = next(found for home in homes if (found := getattr(home, name, None)))
    model, image = factory(**arguments), torch.randn(1, 3, size, size)
    pruner = BasicPruning(model, image, entry=Entry(factory, arguments, name, name))
    plan = pruner.plan(search(model, pruner.graph, SearchSettings("uniform", budget=Budget("ratio", 0.5))).kept)
    told = pruner.publish(plan, tmp_path / "bundle").summary
    assert told["verified"] and told["trained"] and told["precision"] == "float64"
    used = {u.slot.parameter for w in pruner.graph.widths for u in w.uses}
    sizes = {n: p.numel() for n, p in model.named_parameters()}
    assert sum(n for k, n in sizes.items() if k in used) > 0.9 * sum(sizes.values())
