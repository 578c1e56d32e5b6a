"""Pruning networks of few bits: the written file computes the original whose channels go after binarization."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from zeroing import zeroed_copy

from secateur.models import registry
from secateur.pruners.api import prune
from secateur.pruners.base import BasicPruning
from secateur.pruners.bundle import import_text
from secateur.pruners.errors import VerificationError
from secateur.pruners.scratch import import_file
from secateur.pruners.source import Entry
from secateur.pruners.verify import cases, oracle, verify_bundle
from secateur.pruners.verify.outputs import outputs_of
from secateur.training.binarization.kinds import KINDS, Kind, quantized_layers

VARIANTS = {
    **{name: KINDS[name] for name in sorted(KINDS) if name != "Real"},
    "BinaryConnect stochastic": KINDS["BinaryConnect"].with_options(stochastic=True),
    "XnorNet K": KINDS["XnorNet"].with_options(scale_activations=True),
    "DoReFa 1-4-6": KINDS["DoReFa"].with_options(weight_bits=1, activation_bits=4, gradient_bits=6),
    "IRNet 1w32a": KINDS["IRNet"].with_options(activation_bits=32),
}
X = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def network(name: str, kind: Kind, **more: Any) -> tuple[nn.Module, Entry]:
    torch.manual_seed(0)
    arguments = {**registry.arguments_for(name, (1, 8, 8), 3), **registry.layer_arguments(name, kind.layers()), **more}
    return registry.create(name, **arguments), Entry(registry.load_factory(name), arguments, name, name)


class Two(nn.Module):
    """A width between two layers of one kind, with nothing around it."""

    def __init__(self, conv: Any = KINDS["XnorNet"].conv, linear: Any = KINDS["XnorNet"].linear) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 3)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = conv(6, 4, kernel_size=3, bias=True)
        self.bn2 = nn.BatchNorm2d(4)
        self.fc1 = linear(4 * 16, 5)
        self.bn3 = nn.BatchNorm1d(5)
        self.fc2 = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn2(self.conv2(self.bn1(self.conv1(x))))
        return self.fc2(self.bn3(self.fc1(x.flatten(1))))


def pruned_by_hand(kind: str) -> tuple[Tensor, Tensor]:
    """The output of the machinery's pruned network, and one computed from tensors alone."""
    torch.manual_seed(3)
    model = Two(KINDS[kind].conv, KINDS[kind].linear)
    oracle.randomise(model, 0)
    model = model.double().eval()
    x = X.double()
    pruner = BasicPruning(model, x)
    kept = {"conv1": [0, 2, 5], "conv2": [1, 3], "fc1": [0, 1, 3, 4]}
    assert {w.name for w in pruner.graph.widths} == set(kept)
    live = outputs_of(pruner.slice({k: np.array(v) for k, v in kept.items()}).model, x, True)[0]

    def signs(t: Tensor) -> Tensor:
        return torch.where(t >= 0, 1.0, -1.0).double()

    scale = {"BinaryNet": lambda w: torch.ones(len(w)).double(), "XnorNet": lambda w: w.abs().flatten(1).mean(1)}[kind]

    def normed(t: Tensor, bn: Any, rows: list[int]) -> Tensor:
        shape = (1, -1, *(1,) * (t.ndim - 2))
        mean, var, gain, shift = (v[rows].view(shape) for v in (bn.running_mean, bn.running_var, bn.weight, bn.bias))
        return (t - mean) / (var + bn.eps).sqrt() * gain + shift

    one, two, three = kept.values()
    # the removed channels are dropped from signs that were taken of the whole tensors; the scale is of what is left
    y = normed(F.conv2d(x, model.conv1.weight, model.conv1.bias)[:, one], model.bn1, one)
    w = model.conv2.weight
    y = F.conv2d(signs(y), signs(w)[two][:, one]) * scale(w[two][:, one]).view(-1, 1, 1)
    y = normed(y + model.conv2.bias[two].view(-1, 1, 1), model.bn2, two).flatten(1)
    columns = [c * 16 + i for c in two for i in range(16)]
    w = model.fc1.weight
    y = signs(y) @ signs(w)[three][:, columns].T * scale(w[three][:, columns]) + model.fc1.bias[three]
    y = normed(y, model.bn3, three)
    return live, y @ model.fc2.weight[:, three].T + model.fc2.bias


@pytest.mark.parametrize("kind", ["BinaryNet", "XnorNet"])
def test_a_pruned_binary_network_computes_what_tensors_alone_give(kind: str) -> None:
    live, by_hand = pruned_by_hand(kind)
    torch.testing.assert_close(live, by_hand, rtol=1e-12, atol=1e-12)


def test_zeroed_latent_weights_are_no_oracle() -> None:
    """The sign of a zero is one, and zeros make a scale smaller: only the operations' own channels can be taken out."""
    model = Two()
    pruner = BasicPruning(model, X)
    kept = {w.name: np.arange(w.size // 2) for w in pruner.graph.widths}
    zeroed = outputs_of(zeroed_copy(model, pruner.graph, kept), X, True)[0]
    right = outputs_of(pruner.slice(kept).model, X, True)[0]
    assert (zeroed - right).abs().max() > 0.01


@pytest.mark.parametrize("name", ["lenet5_binary", "resnet20_binary"])
@pytest.mark.parametrize("kind", VARIANTS)
def test_every_kind_is_pruned_written_and_verified(kind: str, name: str, tmp_path: Path) -> None:
    more = {"blocks": 1} if name == "resnet20_binary" else {}
    model, entry = network(name, VARIANTS[kind], **more)
    graph = BasicPruning(model, X, entry=entry).graph
    assert all(w.comparable for w in graph.widths)  # so the original itself is the oracle
    frozen = {f.reason for f in graph.frozen}
    assert frozen <= {"reads the network's input, or channels that must stay", "an output of the network"}
    bundle = prune(model, X, output=tmp_path / "out", ratio=0.5, entry=entry)
    text = (bundle.path / "model.py").read_text()
    made = {type(m).__name__ for m in quantized_layers(model)}
    assert made and all(f"class {layer}(nn." in text for layer in made)
    assert "training" not in text.replace("while it trains", "").replace("self.training", "").split('"""', 2)[2]
    assert "@quantizer" not in text

    written = getattr(import_file(bundle.path / "model.py"), name)()
    written.load_state_dict(torch.load(bundle.path / "weights.pth", weights_only=True))
    names = {type(m).__name__ for m in quantized_layers(written)}
    assert names == made
    again = prune(written, X, output=tmp_path / "again", ratio=0.5)
    assert again.summary["verified"] is True


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        ("XnorNet", "return mean_magnitude(weight) * sign_clipped(weight)", "return sign_clipped(weight)"),
        ("XnorNet", "weight.abs().mean(dim=tuple", "weight.abs().sum(dim=tuple"),
        ("BinaryNet", "return x.sign().add_(0.5).sign_()", "return -(-x).sign().add_(0.5).sign_().neg_().add_(1)"),
        ("IRNet", ".log2().round().exp2()", ".log2().exp2()"),
    ],
)
def test_a_binary_layer_that_is_written_wrong_is_refused(kind: str, old: str, new: str, tmp_path: Path) -> None:
    model, entry = network("lenet5_binary", KINDS[kind])
    pruner = BasicPruning(model, X, entry=entry)
    plan = pruner.plan({w.name: np.arange(w.size // 2) for w in pruner.graph.widths})
    text = pruner.source(plan)
    assert old in text
    (tmp_path / "model.py").write_text(text.replace(old, new))
    sliced = pruner.slice(plan.kept)
    torch.save(sliced.model.state_dict(), tmp_path / "weights.pth")
    proof = cases(model, pruner.graph, plan.kept, sliced.model, None, X)
    with pytest.raises(VerificationError, match="computes something else"):
        verify_bundle(tmp_path / "model.py", "lenet5_binary", proof, pruner.predict(plan.kept), 2)


@pytest.mark.parametrize("kind", ["BinaryConnect", "XnorNet", "IRNet", "IENet"])
def test_a_written_network_goes_on_learning_from_its_latent_weights(kind: str) -> None:
    model, entry = network("resnet20_binary", KINDS[kind], blocks=1)
    pruner = BasicPruning(model, X, entry=entry)
    plan = pruner.plan({w.name: np.arange(w.size // 2) for w in pruner.graph.widths})
    written = import_text(pruner.source(plan), entry.name)
    written.load_state_dict(pruner.slice(plan.kept).model.state_dict())
    layer = written.layer1[0].conv1
    kept = list(plan.kept["conv1"])
    assert torch.equal(layer.weight, model.layer1[0].conv1.weight[kept][:, kept])

    KINDS[kind].at_epoch(written, 0.5)
    if kind in ("IRNet", "IENet"):
        assert layer.t == pytest.approx(1.0 if kind == "IRNet" else 10**-0.5)
    optimizer = torch.optim.SGD(written.parameters(), lr=0.1)
    F.cross_entropy(written.train()(X), torch.tensor([0, 1])).backward()
    before = layer.weight.clone()
    optimizer.step()
    assert not torch.equal(layer.weight, before)
    layer.weight.data.mul_(100)
    KINDS[kind].after_step(written)
    assert (layer.weight.abs().max() <= 1) == (kind in ("BinaryConnect", "XnorNet"))


def test_a_binary_network_is_predicted_in_bits() -> None:
    model, entry = network("lenet5_binary", KINDS["XnorNet"])
    pruner = BasicPruning(model, X, entry=entry)
    binary = [m.weight for m in quantized_layers(model)]
    elements, rows = sum(w.numel() for w in binary), sum(len(w) for w in binary)
    real = sum(p.numel() for p in model.parameters()) - elements
    assert pruner.predict({}).bits == elements + 32 * (rows + real)
    kept = {w.name: np.arange(w.size // 2) for w in pruner.graph.widths}
    sliced = pruner.slice(kept).model
    binary = [m.weight for m in quantized_layers(sliced)]
    elements, rows = sum(w.numel() for w in binary), sum(len(w) for w in binary)
    real = sum(p.numel() for p in sliced.parameters()) - elements
    assert pruner.predict(kept).bits == elements + 32 * (rows + real)
