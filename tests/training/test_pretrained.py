"""The checkpoints that come with the project are of the networks that their names say, and go on training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from secateur.models.registry import create, layer_arguments
from secateur.training.binarization.kinds import find_kind
from secateur.training.fit import load_checkpoint, load_weights

ROOT = Path(__file__).parents[2] / "pretrained"
FILES = sorted(ROOT.glob("*/*.pt"))


def test_there_are_some_and_they_are_small():
    assert len(FILES) >= 4
    assert sum(f.stat().st_size for f in FILES) < 5e6


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_a_checkpoint_fits_its_network_and_has_a_curve(path):
    arch, _, name = path.stem.rpartition("_")
    checkpoint = load_checkpoint(path)
    about = checkpoint.training["network"]
    assert about["kind"] == name
    kind = find_kind(name).with_options(**about["options"])
    layers = kind.layers(about["first_layer"], about["last_layer"])
    model = create(arch, num_classes=10, **layer_arguments(arch, layers))
    load_weights(model, checkpoint.model, path)
    images = torch.randn(2, 3, 32, 32)
    assert model.eval()(images).isfinite().all()
    curve = [json.loads(line) for line in path.with_suffix(".curve.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in curve] == list(range(1, len(curve) + 1))
    best = max(row["val_top1"] for row in curve)
    readme = (ROOT / "README.md").read_text()
    assert f"{100 * best:.2f}" in readme
    assert path.name in readme
