"""Networks of a public library, written and run in a process that can't import that library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision.models
from source_helpers import body, load

from pruners.source import Entry, write_source

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
    assert "self.conv2 = conv3x3(width, width, stride)\n" in text
    assert "self.conv3 = conv1x1(width, planes * self.expansion)\n" in text
