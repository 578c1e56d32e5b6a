"""Kinds of networks: what is refused, the layers' arithmetic by hand, the training loop to the letter."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.commands.cli import NetworkOptions
from secateur.commands.network import chosen_kind
from secateur.pruners.costs import measure, profile, stored_tensors
from secateur.pruners.errors import CheckpointError, UsageError
from secateur.training.binarization.kinds import KINDS, find_kind
from secateur.training.binarization.kinds.binaryconnect import BinaryConnectLinear
from secateur.training.binarization.kinds.ienet import sharpen_tents
from secateur.training.binarization.kinds.irnet import FinalIRConv2d, ShiftIRConv2d
from secateur.training.binarization.kinds.schedules import sharpen, sharpness
from secateur.training.fit import load_from_kind

VARIANTS = {
    **{name: KINDS[name] for name in sorted(KINDS)},
    "SemiReal hardtanh": KINDS["SemiReal"].with_options(activation="hardtanh"),
    "BinaryConnect stochastic": KINDS["BinaryConnect"].with_options(stochastic=True),
    "XnorNet K": KINDS["XnorNet"].with_options(scale_activations=True),
    "XnorNet paper": KINDS["XnorNet"].with_options(gradient="paper"),
    "XnorNet port": KINDS["XnorNet"].with_options(gradient="port"),
    "DoReFa 1-4-6": KINDS["DoReFa"].with_options(weight_bits=1, activation_bits=4, gradient_bits=6),
    "DoReFa 32": KINDS["DoReFa"].with_options(weight_bits=32, activation_bits=32),
    "IRNet 1w32a": KINDS["IRNet"].with_options(activation_bits=32),
}


KNOWN = "known are BWN, BinaryConnect, BinaryNet, DoReFa, IENet, IRNet, Real, SemiReal, XnorNet"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("XnorNot", f"unknown network kind 'XnorNot', did you mean 'XnorNet'? {KNOWN}", id="a near miss"),
        pytest.param("binarynet", f"unknown network kind 'binarynet', did you mean 'BinaryNet'? {KNOWN}", id="case"),
        pytest.param(
            "xyz",
            f"unknown network kind 'xyz'; {KNOWN}",
            id="nothing near: all are named",
        ),
    ],
)
def test_an_unknown_kind_is_refused(name: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_kind(name)
    assert str(caught.value) == message


def test_an_option_of_another_kind_is_refused() -> None:
    with pytest.raises(UsageError, match="network kind DoReFa has no option 'stochastic': it has weight_bits, act"):
        find_kind("DoReFa").with_options(stochastic=True)
    with pytest.raises(UsageError, match="network kind BWN has no option 'bits': it has none"):
        find_kind("BWN").with_options(bits=2)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("DoReFa", {"weight_bits": 64}, "DoReFa: weight_bits must be 1 to 32, not 64"),
        ("DoReFa", {"activation_bits": "two"}, "DoReFa: activation_bits must be 1 to 32, not 'two'"),
        ("IRNet", {"activation_bits": 2}, "IRNet: activation_bits must be 1 or 32, not 2"),
        ("XnorNet", {"gradient": "wrong"}, "XnorNet: gradient must be corrected or paper or port, not 'wrong'"),
        ("SemiReal", {"activation": "relu"}, "SemiReal: activation must be sign or hardtanh, not 'relu'"),
        ("BinaryConnect", {"stochastic": "no"}, "BinaryConnect: stochastic must be False or True, not 'no'"),
        ("BinaryConnect", {"stochastic": 1}, "BinaryConnect: stochastic must be False or True, not 1"),
        ("DoReFa", {"weight_bits": 2.0}, "DoReFa: weight_bits must be 1 to 32, not 2.0"),
        ("IRNet", {"shifts": 1}, "IRNet: shifts must be False or True, not 1"),
        (
            "IRNet", {"shifts": True, "activation_bits": 32},
            "IRNet: shifts are for inputs whose signs are taken, not for real ones (activation_bits=32)",
        ),
        (
            "IRNet", {"padding": "checkerboard", "activation_bits": 32},
            "IRNet: padding=checkerboard is for inputs whose signs are taken, not for real ones (activation_bits=32)",
        ),
        ("IRNet", {"padding": "ones"}, "IRNet: padding must be zeros or checkerboard, not 'ones'"),
        ("IRNet", {"final": "yes"}, "IRNet: final must be False or True, not 'yes'"),
        ("IRNet", {"final": True, "shifts": True}, "IRNet: shifts=True goes with padding=zeros and final=False alone"),
        ("IRNet", {"norm": "layer"}, "IRNet: norm must be batch or offset, not 'layer'"),
        ("IRNet", {"t_min": 0}, "IRNet: t_min must be a number above 0, not 0"),
        ("XnorNet", {"min_gain": "no"}, "XnorNet: min_gain must be a number of at least 0, not 'no'"),
    ],
)
def test_a_value_that_an_option_does_not_have_is_refused(kind: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_kind(kind).with_options(**options)
    assert str(caught.value) == message


def test_a_layer_that_is_neither_real_nor_binary_is_refused() -> None:
    with pytest.raises(UsageError, match="--first-layer ternary: must be real or binary"):
        find_kind("BWN").layers(first_layer="ternary")


@pytest.mark.parametrize("name", VARIANTS)
def test_every_kind_has_convolutions_and_linear_layers_that_learn(name: str) -> None:
    kind = VARIANTS[name]
    torch.manual_seed(0)
    for make, shape in ((kind.conv, (2, 3, 6, 6)), (kind.input_conv, (2, 3, 6, 6))):
        layer = make(3, 5, kernel_size=3, stride=2, padding=1, bias=True)
        y = layer(torch.randn(shape).requires_grad_())
        assert y.shape == (2, 5, 3, 3)
        y.square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
        assert layer.weight.grad.abs().sum() > 0
    for make in (kind.linear, kind.input_linear):
        layer = make(7, 4)
        layer(torch.randn(2, 7)).square().sum().backward()
        assert layer.weight.grad.abs().sum() > 0


def _signs(x: Tensor) -> Tensor:
    return torch.where(x >= 0, 1.0, -1.0)


def _hat(w: Tensor) -> Tensor:
    return (w - w.mean((1, 2, 3), keepdim=True)) / w.flatten(1).std(1).view(-1, 1, 1, 1)


EXPECTED = {
    "Real": lambda x, w: F.conv2d(x, w, padding=1),
    "SemiReal": lambda x, w: F.conv2d(_signs(x), w, padding=1),
    "SemiReal hardtanh": lambda x, w: F.conv2d(x.clamp(-1, 1), w, padding=1),
    "BinaryConnect": lambda x, w: F.conv2d(x, _signs(w), padding=1),
    "BinaryConnect stochastic": lambda x, w: F.conv2d(x, w, padding=1),
    "BinaryNet": lambda x, w: F.conv2d(_signs(x), _signs(w), padding=1),
    "BWN": lambda x, w: F.conv2d(x, _signs(w), padding=1) * w.abs().mean((1, 2, 3)).view(-1, 1, 1),
    "XnorNet": lambda x, w: F.conv2d(_signs(x), _signs(w), padding=1) * w.abs().mean((1, 2, 3)).view(-1, 1, 1),
    "XnorNet K": lambda x, w: (
        F.conv2d(_signs(x), _signs(w), padding=1)
        * w.abs().mean((1, 2, 3)).view(-1, 1, 1)
        * F.conv2d(x.abs().mean(1, keepdim=True), torch.full((1, 1, 3, 3), 1 / 9), padding=1)
    ),
    "DoReFa": lambda x, w: F.conv2d(
        (x.clamp(0, 1) * 3).round() / 3,
        2 * (3 * (w.tanh() / (2 * w.tanh().abs().max()) + 0.5)).round() / 3 - 1,
        padding=1,
    ),
    "DoReFa 1-4-6": lambda x, w: F.conv2d((x.clamp(0, 1) * 15).round() / 15, _signs(w) * w.abs().mean(), padding=1),
    "IRNet": lambda x, w: F.conv2d(
        _signs(x), _signs(_hat(w)) * 2 ** _hat(w).abs().mean((1, 2, 3), keepdim=True).log2().round(), padding=1
    ),
    "IRNet 1w32a": lambda x, w: F.conv2d(
        x, _signs(_hat(w)) * 2 ** _hat(w).abs().mean((1, 2, 3), keepdim=True).log2().round(), padding=1
    ),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_convolution_computes_its_formula(name: str) -> None:
    torch.manual_seed(1)
    layer = VARIANTS[name].conv(4, 6, kernel_size=3, padding=1, bias=False).eval()
    x = torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(layer(x), EXPECTED[name](x, layer.weight), rtol=1e-5, atol=1e-5)


def test_ienet_scales_two_shifted_views() -> None:
    torch.manual_seed(2)
    layer = KINDS["IENet"].conv(4, 6, kernel_size=3, padding=1)
    torch.testing.assert_close(layer.alpha, layer.weight.abs().mean((1, 2, 3)))
    assert 0 <= layer.second_share.min() <= layer.second_share.max() <= 0.001
    for p in (layer.first_shift, layer.second_shift, layer.second_share):
        nn.init.normal_(p)
    x, w = torch.randn(2, 4, 5, 5), layer.weight
    weight = _signs(w - w.mean((1, 2, 3), keepdim=True))
    first = F.conv2d(_signs(x + layer.first_shift.view(-1, 1, 1)), weight, padding=1)
    second = F.conv2d(_signs(x + layer.second_shift.view(-1, 1, 1)), weight, padding=1)
    y = layer.alpha.view(-1, 1, 1) * (first + layer.second_share.view(-1, 1, 1) * second) + layer.bias.view(-1, 1, 1)
    torch.testing.assert_close(layer.eval()(x), y)


@pytest.mark.parametrize("ends", [(-1.0, 1.0), (0.3, -0.3), (5.0, 5.0)])
def test_ienet_takes_the_same_signs_in_both_modes(ends: tuple[float, float]) -> None:
    torch.manual_seed(4)
    layer = KINDS["IENet"].conv(4, 6, kernel_size=3, bias=False)
    for shift, end in zip((layer.first_shift, layer.second_shift), ends, strict=True):
        shift.data.copy_(torch.linspace(end, 0.1, 4))
    for scale in (0.01, 0.2, 30.0):
        x = scale * torch.randn(3, 4, 8, 8)
        torch.testing.assert_close(layer.train()(x), layer.eval()(x))


def test_the_shifted_convolution_is_two_convolutions_with_one_weight() -> None:
    torch.manual_seed(3)
    layer = ShiftIRConv2d(3, 4, 3, padding=1, bias=False)
    plain = KINDS["IRNet"].conv(3, 4, 3, padding=1, bias=False)
    plain.load_state_dict({"weight": layer.weight})
    nn.init.normal_(layer.first_shift)
    x = torch.randn(1, 3, 5, 5)
    torch.testing.assert_close(layer(x), plain(x + layer.first_shift) + plain(x))
    sharpen(layer, 1.0)
    assert (layer.k, layer.t) == (1.0, pytest.approx(10.0))


def test_the_final_form_of_an_ir_convolution_is_signs_with_signs() -> None:
    layer = FinalIRConv2d(3, 4, 3, bias=False)
    x = torch.randn(1, 3, 5, 5)
    torch.testing.assert_close(layer(x), F.conv2d(_signs(x), _signs(layer.weight)))


@pytest.mark.parametrize("final", [False, True], ids=["balanced", "final"])
def test_a_border_of_signs_in_turns_is_part_of_the_sums(final: bool) -> None:
    kind = KINDS["IRNet"].with_options(padding="checkerboard", final=final)
    layer, plain = (k.conv(3, 4, 3, stride=2, padding=1) for k in (kind, KINDS["IRNet"].with_options(final=final)))
    plain.load_state_dict(layer.state_dict())
    plain.padding = (0, 0)
    x = torch.randn(2, 3, 6, 6)
    framed = torch.ones(2, 3, 8, 8)
    framed[..., 1::2, ::2] = framed[..., ::2, 1::2] = -1
    framed[..., 1:-1, 1:-1] = x
    torch.testing.assert_close(layer(x), plain(framed))
    assert (kind.linear is KINDS["IRNet"].linear) is not final


@pytest.mark.parametrize("name", VARIANTS)
def test_only_ienet_has_tensors_of_its_own(name: str) -> None:
    keys = list(VARIANTS[name].conv(2, 3, kernel_size=3).state_dict())
    own = ["alpha", "first_shift", "second_shift", "second_share"] if name == "IENet" else []
    assert keys == ["weight", "bias", *own]


# -- the algorithm of BinaryConnect, step by step


def test_one_step_of_binaryconnect_by_hand() -> None:
    """binarize, forward and backward with the signs, restore, step with their gradient, clip: Courbariaux et al. 2015,
    algorithm 1, for y = w_b x + b, loss = (y - 1)^2 and a learning rate of 0.5."""
    layer = BinaryConnectLinear(3, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.25, -0.75, 0.0]]))
        layer.bias.zero_()
    x = torch.tensor([[1.0, 0.5, -0.25]])

    # binarize: w_b = (1, -1, 1), forward: y = 1 - 0.5 - 0.25 = 0.25
    y = layer(x)
    assert y.item() == 0.25
    # backward: dL/dy = 2 (0.25 - 1) = -1.5, dL/dw_b = -1.5 x
    (y - 1).square().sum().backward()
    assert layer.weight.grad.tolist() == [[-1.5, -0.75, 0.375]]
    # restore: the latent weights never left; step: w + 0.5 (1.5, 0.75, -0.375)
    torch.optim.SGD(layer.parameters(), lr=0.5).step()
    assert layer.weight.tolist() == [[1.0, -0.375, -0.1875]]
    assert layer.bias.tolist() == [0.75]
    # clip
    (layer(x) - 1).square().sum().backward()
    with torch.no_grad():
        layer.weight.add_(torch.tensor([[0.5, -9.0, 0.0]]))
    KINDS["BinaryConnect"].after_step(layer)
    assert layer.weight.tolist() == [[1.0, -1.0, -0.1875]]
    assert layer.bias.tolist() == [0.75]  # biases are not clipped


def test_the_loop_equals_the_one_that_overwrites_weights() -> None:
    """The original's loop (save, binarize in place, backward, restore, step, clip) gives the same weights."""
    torch.manual_seed(0)
    ours = nn.Sequential(BinaryConnectLinear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), BinaryConnectLinear(8, 3))
    theirs = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    theirs.load_state_dict(ours.state_dict())
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.3, momentum=0.9) for m in (ours, theirs)]
    targets = [theirs[0].weight, theirs[3].weight]
    for _ in range(5):
        x, labels = torch.randn(16, 6), torch.randint(0, 3, (16,))
        optimizers[0].zero_grad()
        F.cross_entropy(ours(x), labels).backward()
        optimizers[0].step()
        KINDS["BinaryConnect"].after_step(ours)

        saved = [w.detach().clone() for w in targets]
        for w in targets:
            w.data = _signs(w.data)
        optimizers[1].zero_grad()
        F.cross_entropy(theirs(x), labels).backward()
        for w, real in zip(targets, saved, strict=True):
            w.data.copy_(real)
        optimizers[1].step()
        for w in targets:
            w.data.clamp_(-1, 1)
    for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_xnor_latents_are_centred_over_the_inputs_and_clipped() -> None:
    layer = KINDS["XnorNet"].conv(2, 1, kernel_size=1, bias=False)
    layer.weight.data = torch.tensor([3.0, 0.5]).view(1, 2, 1, 1)
    model = nn.Sequential(nn.Conv2d(2, 2, 1), layer)
    real = model[0].weight.clone()
    KINDS["XnorNet"].after_step(model)
    assert layer.weight.view(-1).tolist() == [1.0, -1.0]
    assert torch.equal(model[0].weight, real)


@pytest.mark.parametrize(("least", "gain"), [(0.01, 0.01), (0.5, 0.5), (0, -3.0)])
def test_gains_of_batch_norms_stay_positive_in_xnor_networks(least: float, gain: float) -> None:
    kind = KINDS["XnorNet"].with_options(min_gain=least)
    model = nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm1d(2, affine=False), nn.BatchNorm1d(1))
    model[0].weight.data = torch.tensor([-3.0, 2.0])
    kind.after_step(model)
    assert model[0].weight.tolist() == pytest.approx([gain, 2.0])


# -- schedules


@pytest.mark.parametrize(
    ("done", "k", "t"), [(0.0, 10.0, 0.1), (0.25, 10**0.5, 10**-0.5), (0.5, 1.0, 1.0), (1.0, 1.0, 10.0)]
)
def test_ede_goes_from_the_identity_to_the_sign(done: float, k: float, t: float) -> None:
    assert sharpness(done) == (pytest.approx(k), pytest.approx(t))
    model = nn.Sequential(KINDS["IRNet"].conv(2, 2, 1), nn.ReLU(), KINDS["IRNet"].linear(2, 2))
    KINDS["IRNet"].at_epoch(model, done)
    assert all((m.k, m.t) == (pytest.approx(k), pytest.approx(t)) for m in (model[0], model[2]))


def test_the_schedule_of_resnet20_begins_at_a_thousandth() -> None:
    assert sharpness(0.0, low=1e-3) == (pytest.approx(1000), pytest.approx(1e-3))
    assert sharpness(0.5, low=1e-3) == (pytest.approx(10), pytest.approx(0.1))
    for arch, low in (("resnet20", 1e-3), ("vgg_small", 0.1)):
        chosen = chosen_kind(NetworkOptions(arch=arch, network="IRNet"))
        assert chosen is not None
        layer = chosen.kind.conv(2, 2, 1)
        chosen.kind.at_epoch(layer, 0.0)
        assert layer.t == pytest.approx(low)
    given = chosen_kind(NetworkOptions(arch="resnet20", network="IRNet", kind_arg=("t_min=0.2",)))
    assert given is not None
    assert given.facts["options"] == {
        "activation_bits": 1, "t_min": 0.2, "shifts": False, "norm": "batch", "padding": "zeros", "final": False,
    }  # fmt: skip


def test_tents_of_activations_are_never_wider_than_one() -> None:
    layer = KINDS["IENet"].conv(2, 2, kernel_size=1)
    sharpen_tents(layer, 0.0)
    assert (layer.k, layer.t, layer.input_t) == (pytest.approx(100), pytest.approx(0.01), 1.0)
    sharpen_tents(layer, 1.0)
    assert (layer.k, layer.t, layer.input_t) == (1.0, pytest.approx(10), pytest.approx(10))


# -- bits, alpha, starting from another kind


@pytest.mark.parametrize(
    ("name", "bits"),
    [("Real", 32), ("SemiReal", 32), ("BinaryConnect", 1), ("BinaryNet", 1), ("DoReFa", 2), ("DoReFa 1-4-6", 1)],
)
def test_weights_take_the_bits_of_their_kind(name: str, bits: int) -> None:
    for layer in (VARIANTS[name].conv(4, 6, kernel_size=3), VARIANTS[name].linear(4, 6)):
        stored = stored_tensors(layer)
        assert stored["weight"].bits_of(layer.weight.shape) == bits * layer.weight.numel()
        assert stored["bias"].bits == 32


def test_scaled_activations_are_not_combined_with_another_gradient_silently() -> None:
    with pytest.raises(UsageError, match="corrected gradient only"):
        KINDS["XnorNet"].with_options(scale_activations=True, gradient="paper")


@pytest.mark.parametrize("name", ["XnorNet", "BWN", "IRNet"])
def test_scaled_kinds_store_a_number_per_filter(name: str) -> None:
    layer = KINDS[name].conv(4, 6, kernel_size=3)
    assert stored_tensors(layer)["weight"].bits_of(layer.weight.shape) == 6 * 36 + 6 * 32


@pytest.mark.parametrize(
    ("name", "ends", "alpha"),
    [
        ("BinaryNet", None, 1),
        ("BinaryNet", "binary", 2),
        ("XnorNet", None, 5),
        ("XnorNet", "binary", 5),
        ("DoReFa", "binary", 7),
        ("DoReFa", None, 7),
        ("IRNet", None, 1),
        ("BinaryConnect", None, 2),
    ],
)
def test_default_alpha(name: str, ends: str | None, alpha: float) -> None:
    assert find_kind(name).default_alpha(ends, ends) == alpha


class Net(nn.Module):
    def __init__(self, conv: type[nn.Conv2d]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3)
        self.conv2 = conv(4, 4, kernel_size=3)


@pytest.mark.parametrize("source", ["Real", "IENet", "DoReFa"])
@pytest.mark.parametrize("target", ["XnorNet", "IENet", "Real"])
def test_every_kind_starts_from_every_other(source: str, target: str) -> None:
    state = Net(KINDS[source].conv).state_dict()
    model = Net(KINDS[target].conv)
    load_from_kind(model, state, KINDS[target], "x.pt")
    assert torch.equal(model.conv2.weight, state["conv2.weight"])
    if target == "IENet":
        expected = state.get("conv2.alpha", model.conv2.weight.abs().mean((1, 2, 3)))
        torch.testing.assert_close(model.conv2.alpha.data, expected)


def test_weights_of_another_network_do_not_start_a_kind() -> None:
    state = Net(KINDS["Real"].conv).state_dict()
    state["conv3.weight"] = state.pop("conv2.weight")
    with pytest.raises(CheckpointError, match=r"x.pt doesn't fit this network: it lacks conv2.weight; the net"):
        load_from_kind(Net(KINDS["BWN"].conv), state, KINDS["BWN"], "x.pt")


def test_a_profile_counts_bit_operations_layer_by_layer() -> None:
    few = KINDS["DoReFa"].with_options(weight_bits=3, activation_bits=4)
    xnor = KINDS["XnorNet"].with_options(scale_activations=True)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), xnor.conv(2, 4, 3), KINDS["BWN"].conv(4, 2, 1, bias=False),
        KINDS["SemiReal"].conv(2, 2, 1, bias=False), nn.Flatten(), few.linear(8, 5), few.input_linear(5, 3),
    )  # fmt: skip
    rows = {r.name: r for r in profile(model, torch.zeros(1, 1, 6, 6), repeats=1)}
    precisions = {n: (r.weight_bits, r.input_bits) for n, r in rows.items() if r.macs}
    assert precisions == {"0": (32, 32), "2": (1, 1), "3": (1, 32), "4": (32, 1), "6": (3, 4), "7": (3, 32)}
    macs = {"0": 18 * 16, "1": 0, "2": 72 * 4, "3": 8 * 4, "4": 4 * 4, "5": 0, "6": 40, "7": 15}
    assert {n: r.macs for n, r in rows.items()} == macs
    bops = [macs["0"] * 1024, 0, macs["2"], macs["3"] * 32, macs["4"] * 32, 0, 40 * 12, 15 * 96]
    assert [r.bops for r in rows.values()] == bops
    assert rows["2"].bits == 72 + 4 * 32 + 4 * 32  # signs, a scale for each filter, biases
    assert rows["2"].size_bytes == 4 * (72 + 4)
    assert sum(r.size_bytes for r in rows.values()) == measure(model, torch.zeros(1, 1, 6, 6)).size_bytes
