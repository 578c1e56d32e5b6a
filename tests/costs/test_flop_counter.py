"""MACs, predicted and measured, against torch's own counter, before and after pruning."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from forms import pruned, written
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from secateur.models import registry
from secateur.pruners.base import BasicPruning
from secateur.pruners.bundle import import_text
from secateur.pruners.costs import Budget, measure
from secateur.pruners.run import isolated
from secateur.pruners.search import SearchSettings, search
from secateur.pruners.source import Entry


def counted(model: nn.Module, example: Any) -> int:
    """By torch, whose counter knows the products in attention only where they are done one by one."""
    inputs = example if isinstance(example, tuple) else (example,)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), isolated.transparent(model), sdpa_kernel(SDPBackend.MATH), counter:
        model.eval()(*inputs)
    return int(counter.get_total_flops()) // 2


def halves(pruner: BasicPruning) -> dict[str, Any]:
    """Every second group of every width, the same in all blocks."""
    kept = {}
    for width in pruner.graph.widths:
        blocks = [np.flatnonzero(width.block_of == b) for b in range(width.n_blocks)]
        kept[width.name] = np.sort(np.concatenate([block[::2] for block in blocks]))
    return kept


# -- forms that products come in

CONV = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 3, padding=1)
        {init}
        self.fc = nn.Linear({width}, 5)

    def forward(self, x):
        x = self.b(self.a(x).relu()).relu()
        {call}
        return self.fc(x.flatten(1) if x.ndim == 2 else x.mean((2, 3)))
"""
TOKENS = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(5, 16)
        {init}
        self.fc = nn.Linear(16, 3)

    def forward(self, x):
        x = self.embed(x)
        {call}
        return self.fc(x.mean(1))
"""


def lines(text: str) -> str:
    return "\n        ".join(text.strip().splitlines())


def on_images(call: str, init: str = "", width: int = 12) -> tuple[str, torch.Tensor]:
    return CONV.format(init=lines(init), call=lines(call), width=width), torch.randn(1, 3, 8, 8)


def on_tokens(call: str, init: str = "") -> tuple[str, torch.Tensor]:
    return TOKENS.format(init=lines(init), call=lines(call)), torch.randn(1, 7, 5)


QKV = "self.q, self.k, self.v, self.o = (nn.Linear(16, 16) for _ in range(4))"
HEADS = "q, k, v = (f(x).unflatten(2, (4, 4)).transpose(1, 2) for f in (self.q, self.k, self.v))\n"
JOIN = "\nx = x + self.o(a.transpose(1, 2).flatten(2))"

FORMS = {
    "a normalised weight": on_images(
        "x = F.linear(F.normalize(x.mean((2, 3))), F.normalize(self.w))", "self.w = nn.Parameter(torch.randn(12, 12))"
    ),
    "a normalised weight of a convolution": on_images(
        "x = F.conv2d(x, F.normalize(self.c.weight, dim=1), self.c.bias)", "self.c = nn.Conv2d(12, 12, 3)"
    ),
    "standardised weights": on_images(
        "w = self.c.weight\nm = w.mean((1, 2, 3), keepdim=True)\n"
        "x = F.conv2d(x, (w - m) / (w - m).pow(2).mean((1, 2, 3), keepdim=True).add(1e-5).sqrt(), self.c.bias)",
        "self.c = nn.Conv2d(12, 12, 3)",
    ),
    "a weight times a fresh tensor of its width": on_images(
        "x = F.conv2d(x, self.c.weight * torch.full((self.c.weight.shape[0], 1, 1, 1), 2.0))",
        "self.c = nn.Conv2d(12, 12, 3, bias=False)",
    ),
    "a product with a statistic of a weight": on_images(
        "x = x * torch.einsum('oihw,oihw->o', self.c.weight, self.c.weight).view(1, -1, 1, 1)",
        "self.c = nn.Conv2d(12, 12, 3, bias=False)",
    ),
    "a kernel that the image chooses": on_images(
        "a = self.r(x.mean((2, 3))).softmax(1)[0]\n"
        "x = F.conv2d(x, (a.view(2, 1, 1, 1, 1) * self.bank).sum(0), padding=1)",
        "self.bank = nn.Parameter(torch.randn(2, 12, 12, 3, 3))\nself.r = nn.Linear(12, 2)",
    ),
    "a kernel mixed by a matrix product, the images as groups": on_images(
        "b, c, h, w = x.shape\na = self.r(x.mean((2, 3))).sigmoid()\n"
        "k = torch.matmul(a, self.bank.view(2, -1)).view(b * 12, 12, 3, 3)\n"
        "x = F.conv2d(x.reshape(1, b * c, h, w), k, padding=1, groups=b).view(b, 12, h, w)",
        "self.bank = nn.Parameter(torch.randn(2, 12 * 12 * 9))\nself.r = nn.Linear(12, 2)",
    ),
    "a blur of a constant kernel": on_images(
        "k = torch.tensor([[1.0, 2.0, 1.0]])\nk = (k.t() @ k / 16).to(x)\n"
        "x = F.conv2d(x, k.expand(x.shape[1], 1, 3, 3), padding=1, groups=x.shape[1])"
    ),
    "a Gram matrix of places": on_images(
        "y = x.flatten(2)\nx = (x.flatten(2) @ (y.transpose(1, 2) @ y / 64).softmax(-1)).view_as(x)"
    ),
    "a Gram matrix of channels": on_images(
        "y = x.flatten(2)\nx = ((y @ y.transpose(1, 2) / 64).softmax(-1) @ y).view_as(x)"
    ),
    "bilinear pooling": on_images("y = x.flatten(2)\nx = (y @ y.transpose(1, 2)).flatten(1)", width=144),
    "squeeze and excitation by hand": on_images(
        "x = x * (x.mean((2, 3)) @ self.w1 @ self.w2).sigmoid()[:, :, None, None]",
        "self.w1, self.w2 = nn.Parameter(torch.randn(12, 4)), nn.Parameter(torch.randn(4, 12))",
    ),
    "a transposed and a grouped convolution": on_images(
        "x = self.u(self.g(x))", "self.g = nn.Conv2d(12, 12, 3, groups=3)\nself.u = nn.ConvTranspose2d(12, 12, 2, 2)"
    ),
    "queries times keys": on_tokens(HEADS + "a = (q @ k.mT / 2).softmax(-1) @ v" + JOIN, QKV),
    "einsum": on_tokens(
        HEADS + "a = torch.einsum('bhij,bhjd->bhid', torch.einsum('bhid,bhjd->bhij', q, k).softmax(-1), v)" + JOIN, QKV
    ),
    "cosine attention": on_tokens(
        HEADS + "a = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * 10).softmax(-1) @ v" + JOIN, QKV
    ),
    "linear attention": on_tokens(HEADS + "a = F.elu(q) @ (F.elu(k).mT @ v)" + JOIN, QKV),
    "fused attention": on_tokens(HEADS + "a = F.scaled_dot_product_attention(q, k, v)" + JOIN, QKV),
    "fused attention with queries in groups": on_tokens(
        "q = self.q(x).unflatten(2, (4, 4)).transpose(1, 2)\n"
        "k, v = (f(x).unflatten(2, (2, 4)).transpose(1, 2) for f in (self.k, self.v))\n"
        "a = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)" + JOIN,
        "self.q, self.k, self.v, self.o = (nn.Linear(16, n) for n in (16, 8, 8, 16))",
    ),
    "torch's attention": on_tokens(
        "x = x + self.m(x, x, x, need_weights=False)[0]", "self.m = nn.MultiheadAttention(16, 4, batch_first=True)"
    ),
    "a lambda layer": on_tokens(
        "l = torch.einsum('bnk,bnv->bkv', self.k(x).softmax(1), self.v(x))\n"
        "x = torch.einsum('bnk,bkv->bnv', self.q(x), l)",
        "self.q, self.k, self.v = nn.Linear(16, 8), nn.Linear(16, 8), nn.Linear(16, 16)",
    ),
    "a recurrent layer": on_tokens("x = self.r(x)[0]", "self.r = nn.LSTM(16, 16, batch_first=True)"),
    "mixing over places": on_tokens(
        "x = x + self.m(x.mT).mT", "self.m = nn.Sequential(nn.Linear(7, 9), nn.Linear(9, 7))"
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_torch_counts_as_many_for(name: str, tmp_path: Path) -> None:
    source, example = FORMS[name]
    pruner, widths, text = pruned(tmp_path, source, example=example)
    assert widths
    before, after = counted(pruner.model, example), counted(import_text(text, "Net"), example)
    assert after < before
    assert measure(pruner.model, example).macs == pruner.predict({}).macs == before
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["macs"] == {"before": before, "after": after}


def test_where_a_prediction_is_wrong_what_the_file_takes_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, example = FORMS["a recurrent layer"]
    module = written(tmp_path, source)
    pruner = BasicPruning(module.Net().eval(), example, entry=Entry(module.Net, {}, "Net", "it"))
    plan, predict = pruner.plan(halves(pruner)), pruner.predict
    macs = predict(plan.kept).macs
    monkeypatch.setattr(pruner, "predict", lambda kept: replace(predict(kept), macs=predict(kept).macs + 1_000_000))
    bundle = BasicPruning.publish.__wrapped__(pruner, plan, tmp_path / "out")  # type: ignore[attr-defined]
    assert bundle.summary["macs"] == {"before": predict({}).macs + 1_000_000, "after": macs}
    (warning,) = bundle.summary["warnings"]
    assert warning.startswith(f"warning: the file has {macs:,} MACs, {macs + 1_000_000:,} were planned: ")
    assert "-> 0.0 million MACs" in (bundle.path / "model.py").read_text()


# -- whole networks

BUNDLED = sorted(set(registry.ARCHS) - {"resnet32", "resnet44", "resnet56", "resnet110", "vgg16", "vgg19"})
"""Deeper ones of a family are left out."""

TORCHVISION = {
    "efficientnet_b0": {}, "googlenet": {"init_weights": False, "aux_logits": False}, "mobilenet_v3_small": {},
    "regnet_y_400mf": {}, "resnet18": {}, "shufflenet_v2_x0_5": {}, "squeezenet1_1": {},
}  # fmt: skip
VISION = {
    "a vision transformer": lambda: torchvision.models.VisionTransformer(64, 16, 2, 4, 32, 64),
    "a Swin transformer": lambda: torchvision.models.SwinTransformer([4, 4], 24, [1, 1], [2, 4], [4, 4]),
    "ConvNeXt": lambda: torchvision.models.ConvNeXt([torchvision.models.convnext.CNBlockConfig(16, None, 2)]),
    **{n: lambda n=n, a=a: torchvision.models.get_model(n, weights=None, **a) for n, a in TORCHVISION.items()},
}


@pytest.mark.parametrize("name", BUNDLED)
def test_torch_counts_as_many_for_the_bundled(name: str) -> None:
    model = registry.create(name).eval()
    agrees(model, torch.randn(1, *registry.ARCHS[name].input_shape))


@pytest.mark.parametrize("name", VISION)
def test_torch_counts_as_many_for_torchvision(name: str) -> None:
    agrees(VISION[name]().eval(), torch.randn(1, 3, 64, 64))


def agrees(model: nn.Module, example: torch.Tensor) -> None:
    pruner = BasicPruning(model, example)
    kept = halves(pruner)
    small = pruner.realize(kept)
    for network, predicted in ((model, pruner.predict({})), (small, pruner.predict(kept))):
        assert predicted.macs == measure(network, example).macs == counted(network, example)


def test_a_budget_of_macs_holds_where_attention_takes_most_of_them(tmp_path: Path) -> None:
    model = written(tmp_path, FORMS["queries times keys"][0]).Net().eval()
    example = torch.randn(1, 200, 5)
    pruner = BasicPruning(model, example)
    found = search(model, pruner.graph, SearchSettings(strategy="uniform", budget=Budget("macs", 0.5)))
    before, after = counted(model, example), counted(pruner.realize(found.kept), example)
    assert 0.4 * before < after <= 0.5 * before
