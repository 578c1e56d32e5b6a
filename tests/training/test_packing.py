"""Packed networks: what can't be packed, sums of signs held against float64, every kind, the file on its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.models.binary.lenet5 import lenet5_binary
from secateur.models.binary.resnet import resnet20_binary
from secateur.models.registry import layer_arguments
from secateur.pruners.bundle import import_text
from secateur.pruners.errors import SourceError, UsageError
from secateur.pruners.source import Entry, write_source
from secateur.training.binarization.kinds import find_kind
from secateur.training.packing import (
    Packed,
    PackedConv2d,
    PackedLinear,
    as_text,
    bits_of,
    find_binary,
    pack,
    scaled_afterwards,
)

IMAGE = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(5))
OWN = '''
import torch
from torch import Tensor, nn


class BinaryConv(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        weight = torch.where(self.weight >= 0, 1.0, -1.0).to(x.dtype)
        return self._conv_forward(torch.where(x >= 0, 1.0, -1.0).to(x.dtype), weight, self.bias)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.conv = BinaryConv(6, 9, 3, padding=1, groups=3, bias=False)
        self.after = nn.BatchNorm2d(9)
        self.fc = nn.Linear(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.after(self.conv(self.norm(self.stem(x))))
        return self.fc(x.relu().mean((2, 3)))


def net() -> Net:
    return Net()
'''


def of_kind(factory: Any, kind: str, arguments: dict[str, Any], **options: Any) -> tuple[nn.Module, str, str]:
    """A network of a kind as its written file makes it, the file's text and the factory's name."""
    layers = layer_arguments(factory.__name__, find_kind(kind).with_options(**options).layers(**ENDS.get(kind, {})))
    torch.manual_seed(3)
    model = factory(**arguments, **layers)
    text = write_source(model, Entry(factory, {**arguments, **layers}, factory.__name__, "here"))
    written = import_text(text, factory.__name__)
    written.load_state_dict(model.state_dict())
    return unsettled(written), text, factory.__name__


ENDS: dict[str, dict[str, str]] = {"XnorNet": {"first_layer": "binary", "last_layer": "binary"}}


def unsettled(model: nn.Module) -> nn.Module:
    """With statistics and gains as training leaves them, negative ones and zeros among them."""
    generator = torch.Generator().manual_seed(9)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.copy_(torch.randn(module.num_features, generator=generator))
            module.running_var.copy_(torch.rand(module.num_features, generator=generator) * 20 + 0.5)
            if module.affine:
                module.weight.data.copy_(torch.randn(module.num_features, generator=generator))
                module.bias.data.copy_(torch.randn(module.num_features, generator=generator))
                module.weight.data[0] = 0
    return model.eval()


def packed(model: nn.Module, text: str, inputs: Tensor = IMAGE) -> Packed:
    return pack(model, text, find_binary(model, inputs, "it"), inputs)


def revived(made: Packed, factory: str) -> nn.Module:
    network = import_text(made.text, factory)
    network.load_state_dict(made.state)
    return network.eval()


# -- what can't be packed


@pytest.mark.parametrize(
    ("kind", "options"),
    [("Real", {}), ("SemiReal", {}), ("SemiReal", {"activation": "hardtanh"}), ("DoReFa", {"weight_bits": 2}),
     ("BinaryConnect", {"stochastic": True})],
    ids=["real weights", "signs of inputs alone", "clipped inputs", "two bits", "random signs, real in tests"],
)  # fmt: skip
def test_weights_of_more_than_one_bit_are_refused(kind: str, options: dict[str, Any]) -> None:
    model, _, _ = of_kind(lenet5_binary, kind, {"image_size": 16}, **options)
    with pytest.raises(UsageError, match="it has no layers with weights of one bit") as refused:
        find_binary(model, IMAGE, "it")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("code", "instead", "said"),
    [
        ("torch.where(x >= 0, 1.0, -1.0)", "torch.sign(x)", "BinaryConv: what it does with its inputs is not known"),
        ("torch.where(x >= 0, 1.0, -1.0)", "torch.where(x >= 1, 1.0, -1.0)", "its inputs is not known"),
        ("self.bias)", "self.bias).relu()", "it does more than multiply signs, scale and add"),
        ("self.weight >= 0, 1.0, -1.0", "self.weight >= 0, 1.0, -0.5", "have more than one bit"),
        ("class Net(", "class Wider(BinaryConv):\n    pass\n\n\nclass Net(", "other classes derive from its class"),
    ],
    ids=["sign of zero is zero", "another threshold", "more than a product", "two magnitudes", "others derive from it"],
)
def test_a_layer_that_computes_in_another_way_is_named_with_the_reason(code: str, instead: str, said: str) -> None:
    text = OWN.replace(code, instead)
    model = unsettled(import_text(text, "net"))
    with pytest.raises(UsageError, match=said):
        packed(model, text)


def test_a_name_that_means_something_else_in_the_file_is_refused() -> None:
    text = OWN.replace("class Net", "def both_axes() -> None: ...\n\n\nclass Net")
    model = unsettled(import_text(text, "net"))
    with pytest.raises(SourceError, match="both_axes"):
        packed(model, text)


# -- one layer


def signs(x: Tensor) -> Tensor:
    return torch.where(x >= 0, 1.0, -1.0).double()


def numbers(*shape: int, seed: int = 0) -> Tensor:
    """Random numbers, zeros of both signs among them."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator)
    chosen = torch.rand(shape, generator=generator)
    return torch.where(chosen < 0.1, torch.zeros(()), torch.where(chosen < 0.2, -torch.zeros(()), x))


@pytest.fixture(params=["by torch", "by kernels"])
def way(request: pytest.FixtureRequest) -> str:
    if request.param == "by kernels" and not kernels_there():
        pytest.skip("needs numba, and a CPU with AVX2")
    return str(request.param)


def kernels_there() -> bool:
    return PackedLinear(8, 8).fits


def computing(layer: Any, way: str) -> Any:
    layer.fits = layer.fits and way == "by kernels"
    return layer


SHAPES = {
    "3x3": (64, 32, 3, {"padding": 1}),
    "odd channels": (33, 13, 3, {"padding": 1}),
    "fewer channels than a byte": (3, 5, 3, {"padding": 1}),
    "1x1": (40, 70, 1, {}),
    "1x1 with a stride and padding": (17, 9, 1, {"stride": 2, "padding": 1}),
    "5x5 with strides": (20, 50, 5, {"stride": (2, 3), "padding": 2}),
    "7x7 with a stride": (16, 64, 7, {"stride": 2, "padding": 3}),
    "2x3 with uneven padding": (12, 8, (2, 3), {"padding": (0, 2)}),
    "dilated": (24, 40, 3, {"padding": 2, "dilation": 2}),
    "groups": (48, 36, 3, {"padding": 1, "groups": 3}),
    "depthwise": (10, 20, 3, {"padding": 1, "groups": 10}),
    "many channels": (300, 65, 3, {"padding": 1}),
    "same padding": (9, 4, 3, {"padding": "same"}),
}


@pytest.mark.parametrize("value", [0, 1, -1], ids=["around it 0", "around it +1", "around it -1"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_convolution_gives_the_sums_of_signs_exactly(shape: str, value: int, way: str) -> None:
    inputs, outputs, kernel, options = SHAPES[shape]
    layer = computing(PackedConv2d(inputs, outputs, kernel, **options), way)
    layer.padding_value = value
    weight = numbers(outputs, inputs // layer.groups, *layer.kernel_size, seed=1)
    layer.bits.copy_(bits_of((weight >= 0).permute(0, 2, 3, 1).flatten(1)))
    x = numbers(2, inputs, 9, 13)
    (up, left) = layer.padding
    around = F.pad(signs(x), (left, left, up, up), value=value)
    want = F.conv2d(around, signs(weight), None, layer.stride, 0, layer.dilation, layer.groups)
    assert torch.equal(layer(x).double(), want)
    assert torch.equal(layer(x.to(memory_format=torch.channels_last)).double(), want)
    assert torch.equal(layer.double()(x.double()), want)


@pytest.mark.parametrize("shape", [(1, 5), (3, 64), (2, 4, 33), (300,), (0, 7)], ids=str)
def test_a_linear_layer_gives_the_sums_of_signs_exactly(shape: tuple[int, ...], way: str) -> None:
    layer = computing(PackedLinear(shape[-1], 70), way)
    weight = numbers(70, shape[-1], seed=1)
    layer.bits.copy_(bits_of(weight >= 0))
    x = numbers(*shape)
    assert torch.equal(layer(x).double(), F.linear(signs(x), signs(weight)))


def test_scale_and_offset_are_applied_to_the_sums(way: str) -> None:
    layer = computing(PackedConv2d(8, 12, 3, padding=1), way)
    layer.scale.copy_(torch.tensor([0.5, -2.0, 0.0] * 4))
    layer.offset.copy_(torch.tensor([1.0, 0.25, -3.0, 0.5] * 3))
    sums = F.conv2d(signs(x := numbers(1, 8, 5, 5)), -torch.ones(12, 8, 3, 3).double(), padding=1)
    want = sums * layer.scale[0].view(-1, 1, 1) + layer.offset.view(-1, 1, 1)
    assert torch.equal(layer(x).double(), want)


def test_kernels_read_bits_that_were_changed() -> None:
    layer = PackedLinear(16, 8)
    x = torch.ones(1, 16)
    assert layer(x).tolist() == [[-16.0] * 8]
    layer.bits.fill_(255)
    assert layer(x).tolist() == [[16.0] * 8]
    layer.load_state_dict({**layer.state_dict(), "scale": torch.full((1, 8), 0.5)})
    assert layer(x).tolist() == [[8.0] * 8]
    layer.offset = layer.offset + 1
    assert layer(x).tolist() == [[9.0] * 8]


def test_both_ways_agree_to_the_last_bit_and_take_no_number_for_positive() -> None:
    layer = PackedConv2d(40, 24, 3, padding=1)
    layer.bits.random_(0, 256, generator=torch.Generator().manual_seed(0))
    layer.scale.copy_(numbers(1, 24))
    layer.offset.copy_(numbers(24, seed=2))
    x = numbers(2, 40, 6, 7)
    x[0, 3, 2, 2] = float("nan")
    fast = layer(x)
    assert torch.equal(fast, computing(layer, "by torch")(x))


# -- whole networks

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "BinaryConnect": ("BinaryConnect", {}),
    "BinaryNet": ("BinaryNet", {}),
    "BWN": ("BWN", {}),
    "XnorNet with binary ends": ("XnorNet", {}),
    "XnorNet with the scale of inputs": ("XnorNet", {"scale_activations": True}),
    "XnorNet with the gradient of the port": ("XnorNet", {"gradient": "port"}),
    "IRNet": ("IRNet", {}),
    "IRNet with real activations": ("IRNet", {"activation_bits": 32}),
    "IENet with two views": ("IENet", {}),
    "DoReFa 1/1": ("DoReFa", {"weight_bits": 1, "activation_bits": 1}),
    "DoReFa 1/2": ("DoReFa", {"weight_bits": 1, "activation_bits": 2}),
    "DoReFa 1/32": ("DoReFa", {"weight_bits": 1, "activation_bits": 32}),
}


@pytest.mark.parametrize(
    ("factory", "name"),
    [*((lenet5_binary, name) for name in KINDS), (resnet20_binary, "IRNet"), (resnet20_binary, "IENet with two views")],
    ids=lambda v: v if isinstance(v, str) else v.__name__,
)
def test_every_kind_computes_what_it_did(factory: Any, name: str) -> None:
    kind, options = KINDS[name]
    arguments = {"image_size": 16} if factory is lenet5_binary else {"in_channels": 1, "blocks": 1}
    model, text, factory_name = of_kind(factory, kind, arguments, **options)
    made = packed(model, text)
    network = revived(made, factory_name)
    assert not made.found.others
    with torch.no_grad():
        near, want = network(IMAGE), model(IMAGE)
        assert torch.equal(near.argmax(1), want.argmax(1))
        assert float((near - want).abs().max()) <= 2e-6 * float(want.abs().max())
        with scaled_afterwards(model, made.found):
            exact = model.double()(IMAGE.double())
        assert float((network.double()(IMAGE.double()) - exact).abs().max()) <= 1e-12 * float(exact.abs().max())


def test_batch_norms_behind_sums_of_signs_are_folded_and_only_those() -> None:
    model, text, _ = of_kind(resnet20_binary, "XnorNet", {"in_channels": 1, "blocks": 1})
    made = packed(model, text)
    # the last layer reads numbers, whose sums are rounded: its batch norm stays
    assert made.folded == {f"layer{n}.0.conv{i}": f"layer{n}.0.bn{i}" for n in (1, 2, 3) for i in (1, 2)}
    assert isinstance(revived(made, "resnet20_binary").get_submodule("layer1.0.bn1"), nn.Identity)


def test_a_batch_norm_whose_input_is_read_elsewhere_stays() -> None:
    inner = "self.conv(self.norm(self.stem(x)))"
    text = OWN.replace(f"self.after({inner})", f"(y := {inner}) + self.after(y)")
    model = unsettled(import_text(text, "net"))
    made = packed(model, text)
    assert made.folded == {}
    assert torch.allclose(revived(made, "net")(IMAGE), model(IMAGE), rtol=1e-5, atol=1e-6)


def test_bits_take_the_place_of_weights() -> None:
    model, text, _ = of_kind(lenet5_binary, "BinaryNet", {"image_size": 16})
    made = packed(model, text)
    assert made.state["conv2.bits"].dtype == torch.uint8
    assert made.state["conv2.bits"].numel() == 50 * -(-20 * 25 // 8)
    assert not {"conv2.weight", "conv2.bias"} & set(made.state)
    for gone in ("_ClippedSign", "sign_clipped", "PackedLinear(nn.Linear"):
        assert gone not in made.text


def test_a_sum_of_zero_has_a_sign_of_its_own_and_not_that_of_rounding() -> None:
    """Batch norms as they begin pass sums of 0 on, which scaled weights make to noise."""
    model, text, name = of_kind(resnet20_binary, "XnorNet", {"in_channels": 1, "blocks": 1})
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.reset_parameters()
    made = packed(model.eval(), text)
    with torch.no_grad(), scaled_afterwards(model, made.found):
        want = model.double()(IMAGE.double())
    assert torch.allclose(revived(made, name).double()(IMAGE.double()), want, rtol=1e-12)


# -- the file


@pytest.mark.parametrize("kind", ["XnorNet", "IENet", "BWN"])
def test_the_packed_network_can_be_exported(kind: str) -> None:
    model, text, name = of_kind(resnet20_binary, kind, {"in_channels": 1, "blocks": 1})
    network = revived(packed(model, text), name)
    exported = torch.export.export(network, (IMAGE,))
    with torch.no_grad():
        assert torch.equal(exported.module()(IMAGE), network(IMAGE))
    kept = [n for n in exported.graph.nodes if "packed_signs.convolve" in str(n.target)]
    assert len(kept) == {"XnorNet": 6, "IENet": 12, "BWN": 0}[kind] * kernels_there()


def test_a_bare_interpreter_runs_the_file(tmp_path: Path) -> None:
    model, text, name = of_kind(lenet5_binary, "XnorNet", {"image_size": 16})
    made = packed(model, text)
    (tmp_path / "model.py").write_text(made.text, "utf-8")
    torch.save(dict(made.state), tmp_path / "weights.pth")
    torch.save(IMAGE, tmp_path / "x.pt")
    code = (
        f"import sys, torch; sys.path.insert(0, '.'); from model import {name}; model = {name}().eval()\n"
        "model.load_state_dict(torch.load('weights.pth', weights_only=True))\n"
        "assert not [m for m in sys.modules if m.startswith('secateur')]\n"
        "with torch.no_grad(): torch.save(model(torch.load('x.pt')), 'y.pt')"
    )
    subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, check=True, timeout=120)
    with torch.no_grad():
        assert torch.allclose(torch.load(tmp_path / "y.pt"), model(IMAGE), rtol=1e-5, atol=1e-6)


def test_whole_offsets_give_the_signs_of_scales_of_either_sign() -> None:
    generator = torch.Generator().manual_seed(0)
    layer = PackedLinear(21, 40)
    layer.bits.random_(0, 256, generator=generator)
    layer.scale.copy_(torch.randn(1, 40, generator=generator))
    layer.scale[0, :3] = 0
    layer.offset.copy_(8 * torch.randn(40, generator=generator))
    model = nn.Sequential(layer)
    x = torch.randn(200, 21, generator=generator)
    files = dict(as_text(model, x[:2]))
    weight = torch.tensor([[1.0 if bit == "1" else -1.0 for bit in line] for line in files["0.weights.txt"].split()])
    offsets = torch.tensor([(int(n, 16) + 2**15) % 2**16 - 2**15 for n in files["0.offsets.txt"].split()])
    whole = torch.where(x >= 0, 1.0, -1.0) @ weight.T + offsets >= 0
    assert torch.equal(whole, layer(x) >= 0)
    assert files["pattern2/0.txt"].split() == ["01"[bit] for bit in whole[1].int().tolist()]


def test_networks_without_packed_layers_are_no_text() -> None:
    with pytest.raises(UsageError, match="there are no packed layers"):
        list(as_text(nn.Sequential(nn.Linear(2, 2)), torch.zeros(1, 2)))
