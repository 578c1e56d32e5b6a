"""The bundled networks: by name, on the three kinds of images, with the keys their checkpoints have."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from secateur.models import registry
from secateur.models.cifar.resnet import ResNet, resnet20, resnet44, resnet56
from secateur.pruners.errors import UsageError

IMAGES = {"digits": (1, 8, 8), "mnist": (1, 28, 28), "cifar": (3, 32, 32)}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("resnet21", "there is no bundled network 'resnet21': did you mean 'resnet20'?", id="a number off"),
        pytest.param(
            "resnet200", "there is no bundled network 'resnet200': did you mean 'resnet20'?", id="a near miss is named"
        ),
        pytest.param(
            "xyzzy", "there is no bundled network 'xyzzy': secateur archs lists them", id="nothing near: see the list"
        ),
    ],
)
def test_an_unknown_network_is_refused(name: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        registry.find(name)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        pytest.param(
            "resnet20",
            {"widht": 2},
            "resnet20: got an unexpected keyword argument 'widht'; "
            "its arguments are num_classes, in_channels, shortcut",
            id="an argument it does not take",
        ),
        pytest.param(
            "resnet20",
            {"shortcut": "C"},
            "resnet20: shortcut must be 'A' (zero padding) or 'B' (1x1 convolution), not 'C'",
            id="an unknown shortcut",
        ),
        pytest.param(
            "resnet44",
            {"block": "wide"},
            "resnet44: block must be 'basic' or 'bottleneck', not 'wide'",
            id="an unknown block",
        ),
        pytest.param(
            "vgg_small",
            {"image_size": 4},
            "vgg_small: VGG-Small halves the image three times: image_size must be 8 or more, not 4",
            id="an image too small",
        ),
        pytest.param(
            "alexnet",
            {"image_size": 7},
            "alexnet: AlexNet halves the image three times: image_size must be 8 or more, not 7",
            id="an image too small for the poolings",
        ),
    ],
)
def test_unusable_arguments_are_refused(name: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        registry.create(name, **arguments)
    assert str(caught.value) == message


def test_a_network_that_flattens_takes_square_images_only() -> None:
    with pytest.raises(UsageError, match="lenet5 takes square images, not 28x20: crop or resize them"):
        registry.arguments_for("lenet5", (1, 28, 20), 10)


@pytest.mark.parametrize("depth", [2, 19, 21])
def test_a_depth_that_is_not_6n_plus_2_is_refused(depth: int) -> None:
    with pytest.raises(ValueError, match=rf"depth must be 6n \+ 2 \(20, 32, 44, 56, 110, \.\.\.\), not {depth}"):
        ResNet(depth)


def test_bottlenecks_below_depth_44_are_refused() -> None:
    with pytest.raises(ValueError, match="bottlenecks are for depth 44 and more, not 32"):
        ResNet(32, block="bottleneck")


def test_listing_the_networks_imports_neither_torch_nor_a_network() -> None:
    code = "import sys; from secateur.models import registry; registry.find('resnet'); print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


@pytest.mark.parametrize("name", registry.ARCHS)
@pytest.mark.parametrize("images", IMAGES)
def test_every_network_runs_and_learns_on_every_kind_of_image(name: str, images: str) -> None:
    model = registry.create(name, **registry.arguments_for(name, IMAGES[images], num_classes=7))
    logits = model(torch.randn(2, *IMAGES[images]))
    assert logits.shape == (2, 7)
    F.cross_entropy(logits, torch.tensor([0, 6])).backward()
    without = [key for key, parameter in model.named_parameters() if parameter.grad is None]
    assert without == []


@pytest.mark.parametrize("name", registry.ARCHS)
def test_every_network_runs_on_the_input_it_is_listed_with(name: str) -> None:
    arch = registry.find(name)
    model = registry.create(name).eval()
    with torch.no_grad():
        assert model(torch.randn(1, *arch.input_shape)).shape == (1, 10)


@pytest.mark.parametrize(("alias", "name"), registry.ALIASES.items())
def test_an_alias_is_a_listed_network(alias: str, name: str) -> None:
    assert registry.find(alias) is registry.ARCHS[name]


def test_resnet20_has_the_keys_of_the_published_checkpoints() -> None:
    expected = ["conv1", "bn1"]
    for stage in ("layer1", "layer2", "layer3"):
        expected += [f"{stage}.{i}.{layer}" for i in range(3) for layer in ("conv1", "bn1", "conv2", "bn2")]
    expected.append("linear")
    keys = list(resnet20().state_dict())
    assert list(dict.fromkeys(key.rpartition(".")[0] for key in keys)) == expected
    assert len(keys) == 116


def test_resnet20_has_the_parameters_of_the_paper() -> None:
    # He et al. 2015, table 6: 0.27 million
    assert sum(p.numel() for p in resnet20().parameters()) == 269_722


def test_the_zero_padded_shortcut_centres_the_input_channels() -> None:
    block = resnet20().layer2[0]
    x = torch.randn(1, 16, 8, 8)
    y = block.shortcut(x)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert not y[:, :8].any()
    assert not y[:, 24:].any()


def test_the_projected_shortcut_is_a_convolution_where_the_shape_changes() -> None:
    keys = [key for key in resnet56(shortcut="B").state_dict() if "downsample" in key and key.endswith("0.weight")]
    assert keys == ["layer2.0.downsample.0.weight", "layer3.0.downsample.0.weight"]


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_bottlenecks_run_with_both_shortcuts(shortcut: str) -> None:
    model = resnet44(block="bottleneck", shortcut=shortcut)
    assert model.linear.in_features == 256
    assert model(torch.randn(2, 3, 8, 8)).shape == (2, 10)
