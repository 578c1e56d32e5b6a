"""The bundled networks in the form for binary layers: every one in every kind, and what each is made of."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from secateur.models import registry
from secateur.pruners.errors import UsageError
from secateur.training.binarization.kinds import KINDS
from secateur.training.fit import load_from_kind

SMALL = {
    "alexnet_binary": {"hidden": 64},
    "resnet14_binary": {"width": 8},
    "resnet18_binary": {"width": 8},
    "vgg11_binary": {"width": 8},
}
NETWORKS = [arch.name for arch in registry.ARCHS.values() if arch.binary == arch.name]


def build(name: str, kind: str, ends: str | None = None, small: bool = True, classes: int = 3) -> nn.Module:
    layers = registry.layer_arguments(name, KINDS[kind].layers(ends, ends))
    arguments = registry.arguments_for(name, (1, 8, 8), classes) if small else {}
    torch.manual_seed(0)
    return registry.create(name, **arguments, **layers, **(SMALL.get(name, {}) if small else {}))


def test_a_network_without_a_form_for_binary_layers_is_refused() -> None:
    with pytest.raises(UsageError, match="mobilenetv2 has no form for binary layers: take one of alexnet_binary, len"):
        registry.layer_arguments("mobilenetv2", KINDS["BWN"].layers())


def test_norms_that_only_shift_are_refused_where_norms_cant_be_chosen() -> None:
    layers = KINDS["IRNet"].with_options(norm="offset").layers()
    with pytest.raises(UsageError, match="nin_binary has batch norms only; those of resnet20_binary, vgg_small"):
        registry.layer_arguments("nin_binary", layers)


@pytest.mark.parametrize("name", ["resnet20_binary", "vgg_small", "vgg_small_irnet"])
def test_networks_of_shifted_convolutions_and_norms_that_only_shift_learn(name: str) -> None:
    layers = KINDS["IRNet"].with_options(shifts=True, norm="offset").layers(None, "binary")
    model = registry.create(
        name, **registry.arguments_for(name, (1, 8, 8), 3), **registry.layer_arguments(name, layers)
    )
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    F.cross_entropy(model(torch.randn(4, 1, 8, 8)), torch.tensor([0, 1, 2, 0])).backward()
    learned = [key for key, p in model.named_parameters() if key.endswith(("offset", "first_shift", "second_shift"))]
    assert len(learned) > 12
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_a_binary_last_layer_of_vgg_small_is_followed_by_a_batch_norm() -> None:
    assert isinstance(build("vgg_small", "IRNet", "binary").last_norm, nn.BatchNorm1d)
    assert isinstance(build("vgg_small", "IRNet").last_norm, nn.Identity)


def test_every_binary_form_is_listed() -> None:
    for arch in registry.ARCHS.values():
        assert arch.binary == "" or registry.ARCHS[arch.binary].binary == arch.binary


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_learns_in_every_kind_and_starts_from_another(name: str, kind: str) -> None:
    model = build(name, kind)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, labels = torch.randn(4, 1, 8, 8), torch.tensor([0, 1, 2, 0])
    F.cross_entropy(model(x), labels).backward()
    # where the image is used up, the norm before the layer leaves a few parameters nothing to learn
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    before = {key: value.clone() for key, value in model.named_parameters()}
    optimizer.step()
    KINDS[kind].after_step(model)
    KINDS[kind].at_epoch(model, 0.5)
    moved = [key for key, value in model.named_parameters() if not torch.equal(value, before[key])]
    assert any(key.endswith("weight") for key in moved)
    assert model.eval()(x).isfinite().all()
    other = "IENet" if kind != "IENet" else "Real"
    load_from_kind(model, build(name, other).state_dict(), KINDS[kind], "x.pt")


@pytest.mark.parametrize("name", NETWORKS)
def test_first_and_last_layers_are_real_unless_asked(name: str) -> None:
    def real(model: nn.Module) -> list[bool]:
        layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        return [type(layer) in (nn.Conv2d, nn.Linear) for layer in (layers[0], layers[-1])]

    assert real(build(name, "XnorNet")) == [True, True]
    assert real(build(name, "BinaryConnect")) == [False, False]
    assert real(build(name, "XnorNet", "binary")) == [False, False]


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_lenet5_has_the_parameters_of_the_experiments() -> None:
    model = build("lenet5_binary", "XnorNet", small=False)
    assert parameters(model) == 431_220
    binary = sum(m.weight.numel() for m in (model.conv2, model.ip1))
    assert binary == 425_000


def test_nin_has_the_parameters_of_the_experiments() -> None:
    model = build("nin_binary", "XnorNet", small=False)
    assert parameters(model) == 969_418


def test_resnet14_has_the_parameters_of_the_experiments() -> None:
    model = build("resnet14_binary", "BinaryNet", "binary", small=False)
    assert parameters(model) == 4_337_396


def test_vgg11_has_the_convolution_weights_of_the_experiments() -> None:
    model = build("vgg11_binary", "BinaryNet", small=False)
    assert sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Conv2d)) == 9_217_728


def test_resnet20_is_the_size_of_resnet20() -> None:
    real, binary = (build(name, "Real", small=False) for name in ("resnet20_binary",) * 2)
    assert parameters(real) == parameters(binary) == 269_722 + 2 * 64
    blocks = [key for key in real.state_dict() if key.startswith("layer2.0.")]
    assert blocks == [key for key in registry.create("resnet20").state_dict() if key.startswith("layer2.0.")]


@pytest.mark.parametrize(("name", "behind_the_first"), [("vgg_small", []), ("vgg_small_irnet", ["hardtanh"])])
def test_vgg_small_has_its_layers_in_the_order_drawn(
    name: str, behind_the_first: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    real = nn.functional.hardtanh
    monkeypatch.setattr(nn.functional, "hardtanh", lambda x: (order.append("hardtanh"), real(x))[1])
    model = registry.create(name).eval()
    for part, layer in model.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.Linear)):
            layer.register_forward_hook(lambda *_, part=part: order.append(part.rstrip("012345")))
    model(torch.zeros(1, 3, 32, 32))
    block, pooled = ["conv", "bn", "hardtanh"], ["conv", "pool", "bn", "hardtanh"]
    assert order == ["conv", "bn", *behind_the_first, *pooled, *block, *pooled, *block, *pooled, "fc"]


def test_vgg_small_is_unchanged_without_arguments() -> None:
    model = registry.create("vgg_small")
    plain = {type(model), nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.Linear, nn.Identity}
    assert {type(m) for m in model.modules()} == plain
