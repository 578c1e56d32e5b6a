"""On a GPU: train, prune with images, fit by least squares, measure, verify, retrain, half precision.

``python -m pytest -m cuda``; without a GPU all of it is skipped.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from app_helpers import MODEL, app
from torch import nn

from secateur import prune
from secateur.models.cifar.lenet5 import lenet5
from secateur.training.data import load_data, on_device

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    pytest.mark.filterwarnings("default"),  # a GPU has warnings of its own
]
GPU = ("--device", "cuda")
DATA = ("--data", "digits")


def summary(*arguments: str) -> dict[str, object]:
    result = app(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return dict(json.loads(result.stdout))


@pytest.fixture
def on_gpu() -> nn.Module:
    torch.manual_seed(0)
    return lenet5().cuda().eval()


def images(n: int = 8) -> torch.Tensor:
    return torch.randn(n, 1, 28, 28, generator=torch.Generator().manual_seed(1)).cuda()


@pytest.mark.parametrize("precision", [(), ("--half",), ("--amp", "bf16"), ("--amp", "fp16")], ids=" ".join)
def test_training(precision: tuple[str, ...], here: Path) -> None:
    result = app("train", *MODEL, *DATA, *GPU, *precision, "--epochs", "1", "-o", "trained.pth")
    assert result.exit_code == 0, result.stderr
    state = torch.load("trained.pth", weights_only=True)
    tensors = state.values() if all(isinstance(v, torch.Tensor) for v in state.values()) else []
    assert all(t.device.type == "cpu" and t.isfinite().all() for t in tensors)


@pytest.mark.parametrize("transfer", ["slice", "bn", "lstsq"])
def test_pruning_with_images_and_retraining(transfer: str, here: Path) -> None:
    told = summary(
        "prune", *MODEL, *DATA, *GPU, "--ratio", "0.5", "--search", "uniform", "--metric", "taylor",
        "--transfer", transfer, "--final-epochs", "1", "-o", "out",
    )  # fmt: skip
    assert told["verified"]
    weights = torch.load("out/weights.pth", weights_only=True)
    assert all(t.device.type == "cpu" for t in weights.values())
    again = app("retrain", "out", *DATA, *GPU, "--epochs", "1", "-o", "again")
    assert again.exit_code == 0, again.stderr


def test_latency_is_measured(here: Path) -> None:
    """How much can go depends on the GPU: a small network waits for launches."""
    result = app("prune", *MODEL, *GPU, "--latency", "0.9", "--search", "uniform", "-o", "out")
    assert result.exit_code == 0 or "can't be reached" in result.stderr, result.stderr
    assert " ms on " in result.stderr


@pytest.mark.parametrize("transfer", ["slice", "bn", "lstsq"])
def test_a_model_that_is_on_the_gpu_is_pruned_and_stays(transfer: str, on_gpu: nn.Module) -> None:
    before = copy.deepcopy(on_gpu.state_dict())
    bundle = prune(on_gpu, images(1), ratio=0.5, transfer=transfer, batches=[images()])
    assert bundle.summary["verified"]
    assert all(t.is_cuda and torch.equal(t, before[k]) for k, t in on_gpu.state_dict().items())


def test_the_file_computes_the_same_on_the_gpu(on_gpu: nn.Module) -> None:
    model = prune(on_gpu, images(1), ratio=0.5).model.eval().double()
    with torch.no_grad():
        there = copy.deepcopy(model).cuda()(images().double())
        here = model.cpu()(images().double().cpu())
    assert torch.allclose(there.cpu(), here, atol=1e-9 * float(here.abs().max()))


def test_half_precision_of_the_file(on_gpu: nn.Module) -> None:
    model = prune(on_gpu, images(1), ratio=0.5).model.eval().cuda()
    with torch.no_grad():
        whole, half = model(images()), copy.deepcopy(model).half()(images().half())
    assert half.dtype == torch.float16
    assert torch.allclose(whole, half.float(), atol=2e-2 * float(whole.abs().max()))


def test_images_held_on_the_gpu_come_in_the_same_batches():
    data = load_data("digits")
    there = on_device(data, torch.device("cuda"))
    for here, gpu in zip(data.train.batches(64, seed=3), there.train.batches(64, seed=3), strict=True):
        assert all(t.is_cuda for t in gpu)
        assert torch.equal(gpu[1].cpu(), here[1])
        torch.testing.assert_close(gpu[0].cpu(), here[0])
