"""Declared ties: refused where the class does something else, equal to the traced ones where it does not."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from declared_graphs import declare, declared_graph, same_groups
from torch import Tensor, nn

from secateur.models.registry import ARCHS, create
from secateur.pruners.declare import check_declarations
from secateur.pruners.decorators import BlockKind, basic_block, block_decorator, declaration_of, fire, mb_conv, skip
from secateur.pruners.dependencies import Chain, DependencyCalculator, Fire, MBConv, Residual, declared_block
from secateur.pruners.errors import DeclarationError, NotPrunableError
from secateur.pruners.graph import LayerFacts, Slot
from secateur.pruners.trace import observe
from secateur.pruners.trace.trace import trace


class Pair(nn.Module):
    """Two convolutions, with or without a shortcut around them."""

    adds = True

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return out + x if self.adds else out


class Chained(Pair):
    adds = False


class Summed(nn.Module):
    """Looks like a fire module, but adds where that concatenates."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(8, 4, 1)
        self.left = nn.Conv2d(4, 8, 1)
        self.right = nn.Conv2d(4, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x)
        return self.left(x) + self.right(x)


class Padded(nn.Module):
    """Widens by zeros, as the shortcut "A" of residual networks does."""

    def __init__(self, pad: tuple[int, int] | None, real: tuple[int, int] = (2, 2)) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(8, 12, 3, padding=1)
        self.conv2 = nn.Conv2d(12, 12, 3, padding=1)
        self.pad = pad
        self.real = real

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.relu(self.conv1(x))) + F.pad(x, (0, 0, 0, 0, *self.real))


def around(block: nn.Module, out: int = 8) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 1), block, nn.Conv2d(out, 4, 1))


def check(model: nn.Module, side: int = 8) -> None:
    x = torch.randn(2, 3, side, side)
    check_declarations(model, observe(model, x).facts, x)


def declared(decorator: Any, parent: type[nn.Module], convs: list[str], **more: Any) -> type[nn.Module]:
    return decorator(lType="mine", convs=convs, **more)(type("Mine", (parent,), {}))


def channels_last() -> nn.Module:
    class Flipped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(12, 20), nn.Linear(20, 12)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.fc2(F.relu(self.fc1(x)))

    class Image(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 12, 1), nn.Linear(12, 4)
            self.block = declared(basic_block, Flipped, ["fc1", "fc2"])()

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.block(self.first(x).permute(0, 2, 3, 1)))

    return Image()


BOTH = ["conv1", "conv2"]
WRONG: dict[str, tuple[Any, str]] = {
    "a layer that is not there": (
        lambda: around(declared(basic_block, Pair, ["conv1", "conv3"])()),
        r"Mine \(1\) has no layer conv3, did you mean conv[12]\?",
    ),
    "a shortcut layer that is not there": (
        lambda: around(declared(basic_block, Pair, BOTH, downsampling=["short"])()),
        r"Mine \(1\) has no layer short",
    ),
    "a norm named as a convolution": (
        lambda: around(declared(basic_block, Pair, ["conv1", "bn1"])()),
        "names bn1 among its convolutions, but that is BatchNorm2d",
    ),
    "a residual that is none": (
        lambda: around(declared(basic_block, Chained, BOTH)()),
        r"Mine \(1\) declares that its input and the output channels of conv2 go together, but its forward doesn't",
    ),
    "a chain that is a residual": (
        lambda: around(declared(block_decorator(BlockKind("chain", Chain())), Pair, BOTH)()),
        r"@chain at .*: Mine \(1\) declares nothing that joins its input and the output channels of conv2, but its",
    ),
    "a fire module that adds": (
        lambda: around(declared(fire, Summed, ["squeeze", "left", "right"])()),
        r"Mine \(1\) declares 16 output channels, but has 8",
    ),
    "convolutions in the wrong order": (
        lambda: around(declared(basic_block, Pair, ["conv2", "conv1"])()),
        "go together, but its forward doesn't join them one by one",
    ),
    "a layer that never runs": (
        lambda: around(declared(basic_block, type("Lazy", (Pair,), {"forward": lambda s, x: x + s.conv2(x)}), BOTH)()),
        "names conv1, but its forward doesn't run that layer",
    ),
    "layers of which none runs": (
        lambda: around(declared(basic_block, type("Idle", (Pair,), {"forward": lambda s, x: x}), BOTH)()),
        "names conv1, but its forward doesn't run that layer",
    ),
    "a widening shortcut that is not described": (
        lambda: around(declared(basic_block, Padded, BOTH)(None), 12),
        r"adds its 8 input channels to the 12 of conv2: name the shortcut's convolution in downsampling, or set pad =",
    ),
    "a padding of another size": (
        lambda: around(declared(basic_block, Padded, BOTH)((1, 1)), 12),
        "adds its 8 input channels to the 12 of conv2",
    ),
    "a padding at another place": (
        lambda: around(declared(basic_block, Padded, BOTH)((4, 0)), 12),
        "go together, but its forward doesn't join them one by one",
    ),
    "convolutions that don't fit each other": (
        lambda: around(declared(basic_block, Summed, ["left", "right"])()),
        "declares that right reads left, but right takes 4 channels, not 8",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_refuses_with_class_layer_and_line(name: str) -> None:
    build, message = WRONG[name]
    line = inspect.getsourcelines(declared)[1] + 1
    with pytest.raises(DeclarationError, match=message) as caught:
        check(build())
    assert f" at {__file__}:{line}: Mine (1) " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_calculator_that_invents_layers_is_refused() -> None:
    class Inventive(Chain):
        def dependent_conv(self, layerName: str, convs: Any) -> str:
            return "conv9"

    kind = block_decorator(BlockKind("inventive", Inventive()))
    with pytest.raises(DeclarationError, match="has a calculator that speaks of conv9, which is not among"):
        check(around(declared(kind, Chained, BOTH)()))


def test_layers_that_do_not_run_in_the_order_of_definition_are_not_composed() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(4, 8, 1))
    with pytest.raises(NotPrunableError, match="1 reads 4 channels, but 8 come from the layers defined before it"):
        declared_graph(model)


def test_the_calculator_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        DependencyCalculator()  # type: ignore[abstract]


# ---------------------------------------------------------------------------------------------- what is right


RIGHT: dict[str, Any] = {
    "a block with channels on the last axis": lambda: channels_last(),
    "a residual": lambda: around(declared(basic_block, Pair, BOTH)()),
    "a padded residual": lambda: around(declared(basic_block, Padded, BOTH)((2, 2)), 12),
    "a chain": lambda: around(declared(block_decorator(BlockKind("chain", Chain())), Chained, BOTH)()),
    "a block that reads the image": lambda: nn.Sequential(declared(basic_block, Pair, BOTH)(3), nn.Conv2d(3, 4, 1)),
    "a block that is the whole network": lambda: declared(basic_block, Pair, BOTH)(3),
}


@pytest.mark.parametrize("name", RIGHT)
def test_accepts(name: str) -> None:
    check(RIGHT[name]())


def test_ties_from_outside_are_not_held_against_a_block() -> None:
    """An undecorated shortcut around a declared chain joins what goes in with what goes out."""
    chain = declared(block_decorator(BlockKind("chain", Chain())), Chained, BOTH)

    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.block, self.last = nn.Conv2d(3, 8, 1), chain(), nn.Conv2d(8, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            return self.last(x + self.block(x))

    check(Around())


def tuple_of(block: nn.Module, x: Tensor) -> Tensor:
    return block(x, mask=torch.ones(2))[0]


CALLS: dict[str, Any] = {
    "twice": lambda block, x: block(block(x)),
    "with other arguments": lambda block, x: block(x, 0.5),
    "with its input by keyword": lambda block, x: block(x=x),
    "for a tuple": tuple_of,
    "never": lambda block, x: x,
}


@pytest.mark.parametrize("name", CALLS)
def test_blocks_may_be_called(name: str) -> None:
    class Rich(Pair):
        def forward(self, x: Tensor, scale: float = 1.0, mask: Tensor | None = None) -> Any:
            out = x + scale * self.conv2(self.conv1(x))
            return out if mask is None else (out, mask)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)
            self.block = declared(basic_block, Rich, BOTH)()

        def forward(self, x: Tensor) -> Tensor:
            return self.last(CALLS[name](self.block, self.first(x)))

    check(Net())


def test_norms_that_were_guessed_are_not_held_against_a_block() -> None:
    class Before(Pair):
        def forward(self, x: Tensor) -> Tensor:
            return x + self.conv2(F.relu(self.bn2(self.conv1(F.relu(self.bn1(x))))))

    check(around(declared(basic_block, Before, BOTH)()))


def test_blocks_with_computed_weights_are_left_to_the_trace() -> None:
    model = around(declared(basic_block, Pair, BOTH)())
    torch.nn.utils.parametrizations.weight_norm(model[1].conv1)
    check(model)


def test_a_network_without_decorators_needs_no_example() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1))
    check_declarations(model, observe(model, torch.randn(1, 3, 8, 8)).facts, None)


def test_checking_leaves_the_model_as_it_was() -> None:
    chain = declared(block_decorator(BlockKind("chain", Chain())), Pair, BOTH)
    model = around(chain()).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    x = torch.randn(2, 3, 8, 8)
    drawn = torch.random.get_rng_state()
    with pytest.raises(DeclarationError):
        check_declarations(model, observe(model, x).facts, x)
    assert all(m.training for m in model.modules())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not model[1]._forward_hooks
    assert torch.equal(torch.random.get_rng_state(), drawn)


def test_two_classes_of_one_ltype_keep_their_own_layers() -> None:
    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv10 = nn.Conv2d(8, 8, 1)
            self.conv1 = nn.Conv2d(8, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.conv1(self.conv10(x))

    first, second = declared(basic_block, Pair, BOTH), declared(basic_block, Other, ["conv10", "conv1"])
    check(nn.Sequential(nn.Conv2d(3, 8, 1), first(), second(), nn.Conv2d(8, 4, 1)))


UNDECLARED = ("resnet20_binary",)  # a shortcut around each convolution of a block is no kind of block that is built in
BUNDLED: dict[str, tuple[str, Mapping[str, Any]]] = {
    **{name: (name, {}) for name in ARCHS if name not in ("resnet110", "resnet44", "resnet32", *UNDECLARED)},
    "resnet20 with 1x1 shortcuts": ("resnet20", {"shortcut": "B"}),
    "resnet56 of bottlenecks": ("resnet56", {"block": "bottleneck"}),
    "resnet56 of bottlenecks with 1x1 shortcuts": ("resnet56", {"block": "bottleneck", "shortcut": "B"}),
}


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_networks_are_declared_as_they_run(name: str) -> None:
    arch, arguments = BUNDLED[name]
    model = create(arch, **arguments)
    x = torch.randn(2, *ARCHS[arch].input_shape)
    tracer = observe(model, x)
    check_declarations(model, tracer.facts, x)
    traced, composed = tracer.graph(), declared_graph(model)
    assert same_groups(composed, traced)
    assert [(w.name, w.size) for w in composed.widths] == [(w.name, w.size) for w in traced.widths]


def test_groups_that_differ_are_told_apart() -> None:
    one, two = around(declared(basic_block, Pair, BOTH)()), around(Chained())
    x = torch.randn(1, 3, 8, 8)
    assert not same_groups(trace(one, x), trace(two, x))


COMPOSED = {
    "grouped convolutions": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.Conv2d(8, 12, 1, groups=4), nn.Conv2d(12, 4, 1)
    ),
    "depth-wise convolutions with a multiplier": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.Conv2d(8, 16, 3, groups=8), nn.PReLU(16), nn.Conv2d(16, 4, 1)
    ),
    "transposed convolutions": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.ConvTranspose2d(8, 6, 2), nn.Conv2d(6, 4, 1)
    ),
    "group norm": lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.GroupNorm(2, 8), nn.Conv2d(8, 4, 1)),
    "a flatten between convolution and linear layer": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 36, 10), nn.ReLU(), nn.Linear(10, 3)
    ),
    "a softmax between two layers": lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.Softmax(1), nn.Conv2d(8, 4, 1)),
    "skipped layers": lambda: around(skip(convs=["conv1"])(declared(basic_block, Pair, BOTH))()),
}


@pytest.mark.parametrize("name", COMPOSED)
def test_free_layers_compose_as_they_run(name: str) -> None:
    model = COMPOSED[name]()
    assert same_groups(declared_graph(model), trace(model, torch.randn(2, 3, 8, 8)))


# ---------------------------------------------------------------------------------------------- the five questions


def test_residual_answers() -> None:
    model = create("resnet20", shortcut="B")
    plain, down = model.layer1[0], model.layer2[0]
    calculator, convs, ds = Residual(), ["conv1", "conv2"], ["downsample"]
    assert calculator.dependent_conv("layer1.0", convs) == "conv2"
    assert calculator.external_dependency(plain, "basic_block", convs, ds) == (True, ["conv2"])
    assert calculator.internal_dependency(plain, "basic_block", convs, ds) == (False, [])
    assert calculator.external_dependency(down, "basic_block", convs, ds) == (False, [])
    assert calculator.internal_dependency(down, "basic_block", convs, ds) == (True, [["conv2", "downsample.0"]])
    assert calculator.get_internal_connections("", down, convs, ds) == {"conv1": [("conv2", 1)]}
    assert calculator.get_interface_layers("", plain, convs, ds) == [("conv1", 1)]
    assert calculator.get_interface_layers("", down, convs, ds) == [("conv1", 1), ("downsample.0", 1)]


def test_mb_conv_answers() -> None:
    model = create("mobilenetv2")
    kept, narrowed = model.blocks[2], model.blocks[1]
    calculator, convs = MBConv(), ["conv1", "conv2", "conv3"]
    assert calculator.dependent_conv("blocks.2", convs) == "conv3"
    assert calculator.internal_dependency(kept, "mb_conv", convs, []) == (True, [["conv1", "conv2"]])
    assert calculator.external_dependency(kept, "mb_conv", convs, []) == (True, ["conv3"])
    assert calculator.external_dependency(narrowed, "mb_conv", convs, []) == (False, [])
    assert calculator.get_internal_connections("", kept, convs, []) == {
        "conv1": [("conv2", 144)],
        "conv2": [("conv3", 1)],
    }


def test_mb_conv_decides_by_stride_and_width_without_the_attribute() -> None:
    model = create("mobilenetv2")
    convs = ["conv1", "conv2", "conv3"]
    for block in model.blocks:
        said = block.residual
        del block.residual
        assert MBConv().external_dependency(block, "mb_conv", convs, [])[0] is said


def test_fire_answers() -> None:
    module, convs = create("squeezenet").fire2, ["squeeze", "expand1x1", "expand3x3"]
    assert Fire().dependent_conv("fire2", convs) == ["expand1x1", "expand3x3"]
    assert Fire().get_internal_connections("", module, convs, []) == {"squeeze": [("expand1x1", 1), ("expand3x3", 1)]}
    assert Fire().get_interface_layers("", module, convs, []) == [("squeeze", 1)]
    assert Fire().internal_dependency(module, "fire", convs, []) == (False, [])


def test_ports_of_a_padded_block_by_hand() -> None:
    module = declared(basic_block, Padded, BOTH)((2, 2))
    assert declaration_of(type(module)) is not None
    found = declared_block("here", module)
    assert found is not None
    layers = LayerFacts(module)
    incoming = layers.facts.virtual("input", 8, found.declaration.site)
    outgoing = found.calculator.connect(found, incoming, layers, "")
    classes = layers.facts.classes()
    reads = layers.facts.atoms(Slot("conv1.weight", 1))
    assert outgoing.size == 12
    assert np.array_equal(classes[outgoing[2:10]], classes[incoming])
    assert np.array_equal(classes[reads], classes[incoming])
    assert len(set(classes[outgoing].tolist())) == 12
    assert len(set(classes[[*incoming, *outgoing]].tolist())) == 12


@pytest.mark.parametrize(
    "names, expected",
    [
        (["conv1", "bn1"], "bn1"),
        (["conv1", "act", "anything"], "anything"),
        (["conv1", "other", "bn1"], "bn1"),
        (["conv1", "other", "bn"], None),
        (["conv1", "act"], None),
    ],
    ids=["by number", "the next norm", "by number behind another layer", "not behind another layer", "none"],
)
def test_the_norm_behind_a_convolution(names: list[str], expected: str | None) -> None:
    kinds = {"conv1": nn.Conv2d(4, 4, 1), "other": nn.Conv2d(4, 4, 1), "act": nn.ReLU()}
    module = nn.Module()
    for name in names:
        module.add_module(name, kinds.get(name) or nn.BatchNorm2d(4))
    assert Chain().following_norm(module, "conv1") == expected


def test_composed_facts_name_the_decorator() -> None:
    model = create("resnet20")
    sites = {t.site for t in declare(model).facts.ties if t.reason == "@basic_block"}
    assert {s.file.rpartition("/")[2] for s in sites} == {"resnet.py"}


def test_mb_conv_with_a_shortcut_convolution() -> None:
    class Projected(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(8, 16, 1)
            self.conv2 = nn.Conv2d(16, 16, 3, padding=1, groups=16)
            self.conv3 = nn.Conv2d(16, 12, 1)
            self.short = nn.Conv2d(8, 12, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv3(self.conv2(self.conv1(x))) + self.short(x)

    block = declared(mb_conv, Projected, ["conv1", "conv2", "conv3"], downsampling=["short"])
    model = around(block(), 12)
    check(model)
    assert same_groups(declared_graph(model), trace(model, torch.randn(2, 3, 8, 8)))
