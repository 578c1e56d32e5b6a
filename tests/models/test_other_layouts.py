"""Weights with the names of the programs that the networks follow."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from app_helpers import app
from torch import Tensor, nn

from secateur.commands.cli import NetworkOptions
from secateur.commands.network import network_from
from secateur.commands.show import Voice


class BinConv2d(nn.Module):
    """As in XNOR-Net-PyTorch, with the weights that it has while it is tested."""

    def __init__(self, inputs: int, outputs: int, kernel: int = -1, padding: int = 0, lin: bool = False, size: int = 0
                 ) -> None:  # fmt: skip
        super().__init__()
        self.bn: nn.Module = nn.BatchNorm2d(inputs // size if size else inputs, eps=1e-4)
        self.padding = padding
        if lin:
            self.linear = nn.Linear(inputs, outputs)
        else:
            self.conv = nn.Conv2d(inputs, outputs, kernel, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(x)
        x = torch.where(x >= 0, 1.0, -1.0)
        layer = getattr(self, "linear", None) or self.conv
        alpha = layer.weight.abs().flatten(1).mean(1)
        weight = torch.where(layer.weight >= 0, 1.0, -1.0) * alpha.view(-1, *[1] * (layer.weight.ndim - 1))
        if isinstance(layer, nn.Linear):
            return F.linear(x.flatten(1), weight, layer.bias).relu()
        return F.conv2d(x, weight, layer.bias, padding=self.padding).relu()


class LeNet5(nn.Module):
    """The original's."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, kernel_size=5)
        self.bn_conv1 = nn.BatchNorm2d(20, eps=1e-4, affine=False)
        self.bin_conv2 = BinConv2d(20, 50, 5)
        self.bin_ip1 = BinConv2d(50 * 4 * 4, 500, lin=True, size=4 * 4)
        self.ip2 = nn.Linear(500, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.bn_conv1(self.conv1(x)).relu(), 2)
        x = F.max_pool2d(self.bin_conv2(x), 2)
        return self.ip2(self.bin_ip1(x))


class NIN(nn.Module):
    """The original's, in evaluation, where there is no dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.xnor = nn.Sequential(
            nn.Conv2d(3, 192, 5, padding=2), nn.BatchNorm2d(192, eps=1e-4, affine=False), nn.ReLU(),
            BinConv2d(192, 160, 1), BinConv2d(160, 96, 1), nn.MaxPool2d(3, 2, 1),
            BinConv2d(96, 192, 5, 2), BinConv2d(192, 192, 1), BinConv2d(192, 192, 1), nn.AvgPool2d(3, 2, 1),
            BinConv2d(192, 192, 3, 1), BinConv2d(192, 192, 1), nn.BatchNorm2d(192, eps=1e-4, affine=False),
            nn.Conv2d(192, 10, 1), nn.ReLU(), nn.AvgPool2d(8, 1, 0),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.xnor(x).flatten(1)


@pytest.mark.parametrize(("arch", "original", "shape"), [("lenet5", LeNet5, "1,28,28"), ("nin", NIN, "3,32,32")])
def test_weights_of_xnor_net_pytorch_are_taken_and_give_the_same(
    arch: str, original: type[nn.Module], shape: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    theirs = original()
    for norm in (m for m in theirs.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean.normal_(0, 0.1)
        norm.running_var.uniform_(0.5, 2)
        if norm.affine:
            nn.init.normal_(norm.bias, 0, 0.1)
    state = {f"module.{key}": value for key, value in theirs.state_dict().items()}
    torch.save({"acc": 99.2, "state_dict": state}, here / "theirs.pth.tar")
    size = tuple(map(int, shape.split(",")))
    options = NetworkOptions(arch=arch, network="XnorNet", input_shape=(size,), weights=Path("theirs.pth.tar"))
    with Voice() as voice:
        network = network_from(options, voice)
    assert "theirs.pth.tar: its names are those of XNOR-Net-PyTorch" in capsys.readouterr().err
    x = torch.randn(4, *size)
    with torch.no_grad():
        torch.testing.assert_close(network.model.eval()(x), theirs.eval()(x), rtol=1e-4, atol=1e-5)


def test_names_of_another_network_are_refused_as_ever(here: Path) -> None:
    state = LeNet5().state_dict()
    torch.save({key.replace("bin_ip1", "bin_ip9"): value for key, value in state.items()}, here / "other.pt")
    words = ("--arch", "lenet5", "--network", "XnorNet", "--input-shape", "1,28,28", "--weights", "other.pt")
    result = app("inspect", *words)
    assert result.exit_code == 2 and "doesn't fit this network" in result.stderr
