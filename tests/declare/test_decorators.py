"""What decorators accept, refuse and leave behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secateur.pruners.decorators import (
    BlockKind,
    basic_block,
    block_decorator,
    bottleneck,
    declaration_of,
    fire,
    mb_conv,
    skip,
    skipped_layers,
)  # fmt: skip
from secateur.pruners.errors import DeclarationError
from secateur.pruners.trace.trace import trace


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3)
        self.conv2 = nn.Conv2d(8, 8, 3)
        self.conv3 = nn.Conv2d(8, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(self.conv2(self.conv1(x)))


def fresh() -> type[nn.Module]:
    return type("Fresh", (Plain,), {})


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "an lType that is missing": (lambda: basic_block(convs=["conv1"]), r"lType is missing: write @basic_block\(lType"),
    "an lType that is not a word": (lambda: fire(lType=3, convs=["conv1"]), "lType is missing: write @fire"),
    "positional arguments": (lambda: mb_conv("mb_conv", ["conv1"]), r"write @mb_conv\(lType=..., convs=\[...\], downs"),
    "a decorator without its call": (lambda: bottleneck(Plain), "with keywords"),
    "an unknown argument": (lambda: basic_block(lType="b", conv=["conv1"]), "there is no argument conv: write"),
    "a shortcut on a fire module": (
        lambda: fire(lType="f", convs=["a"], downsampling=["b"]),
        r"there is no argument downsampling: write @fire\(lType=..., convs=\[...\]\)",
    ),
    "no convolutions": (lambda: basic_block(lType="b"), "convs must name the block's convolutions"),
    "one name instead of a list": (lambda: basic_block(lType="b", convs="conv1"), "must be a list of attribute names"),
    "names that are not words": (lambda: basic_block(lType="b", convs=[1]), "must be a list of attribute names"),
    "a name given twice": (lambda: basic_block(lType="b", convs=["conv1", "conv1"]), "convs names a layer twice"),
    "a function instead of a class": (lambda: basic_block(lType="b", convs=["a"])(len), "derives from nn.Module"),
    "a class that is no module": (lambda: skip(convs=["a"])(int), "derives from nn.Module"),
    "a skip without keyword": (lambda: skip(["conv1"]), r"write @skip\(convs=\[...\]\)"),
    "a skip with more": (lambda: skip(convs=["conv1"], lType="b"), "and nothing else"),
    "a second declaration of a class": (
        lambda: fire(lType="f", convs=["a"])(basic_block(lType="b", convs=["a"])(fresh())),
        r"Fresh is declared already, at .*test_decorators.py:\d+",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    function, message = REFUSED[name]
    with pytest.raises(DeclarationError, match=message) as caught:
        function()
    assert f"{__file__}:" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_skipped_layer_that_is_not_there_is_refused_with_class_path_line_and_the_closest_name() -> None:
    model = nn.Sequential(skip(convs=["conv4"])(fresh())())
    with pytest.raises(DeclarationError, match=r"@skip at .*test_decorators.py:\d+: Fresh \(0\) has no layer conv4"):
        skipped_layers(model)


def test_the_class_comes_back_the_same_and_knows_its_line() -> None:
    cls = fresh()
    names = set(vars(cls))
    decorate = basic_block(lType="mine", convs=["conv1", "conv2"], downsampling=["short"])
    line = sys._getframe().f_lineno - 1
    assert decorate(cls) is cls
    found = declaration_of(cls)
    assert found is not None
    assert (found.lType, found.convs, found.downsampling) == ("mine", ("conv1", "conv2"), ("short",))
    assert (found.site.file, found.site.line) == (__file__, line)
    assert set(vars(cls)) - names == {"_secateur_declaration"}


def test_a_declaration_belongs_to_its_class_alone() -> None:
    one, two = fresh(), fresh()
    basic_block(lType="same", convs=["conv1"])(one)
    basic_block(lType="same", convs=["conv2"])(two)
    heir = type("Heir", (one,), {})
    first, second = declaration_of(one), declaration_of(two)
    assert first is not None and second is not None
    assert (first.convs, second.convs) == (("conv1",), ("conv2",))
    assert declaration_of(heir) is None
    assert declaration_of(Plain) is None


def test_kinds_of_one_name_never_meet() -> None:
    one, two = block_decorator(BlockKind("x", object())), block_decorator(BlockKind("x", object()))
    assert one.kind is not two.kind
    assert one.kind != two.kind


@pytest.mark.parametrize("decorator", [basic_block, bottleneck, mb_conv, fire])
def test_every_decorator_knows_a_calculator(decorator: Any) -> None:
    from secateur.pruners.dependencies import DependencyCalculator

    assert isinstance(decorator.kind.part("calculator"), DependencyCalculator)


def test_skipped_layers_are_found_by_path_and_stay() -> None:
    model = nn.Sequential(skip(convs=["conv2"])(fresh())(), nn.Conv2d(4, 2, 1))
    assert list(skipped_layers(model)) == ["0.conv2"]
    graph = trace(model, torch.randn(1, 3, 8, 8))
    assert "0.conv2" not in {w.name for w in graph.widths}
    assert {"0.conv1", "0.conv3"} == {w.name for w in graph.widths}


def test_skips_add_up_and_are_inherited() -> None:
    parent = skip(convs=["conv1"])(skip(convs=["conv2"])(fresh()))
    child = skip(convs=["conv3"])(type("Child", (parent,), {}))
    assert set(skipped_layers(parent())) == {"conv1", "conv2"}
    assert set(skipped_layers(child())) == {"conv1", "conv2", "conv3"}


def test_a_name_is_never_found_within_a_longer_one() -> None:
    cls = type("Ten", (Plain,), {})
    model = skip(convs=["conv1"])(cls)()
    model.conv10 = nn.Conv2d(4, 4, 1)
    assert list(skipped_layers(model)) == ["conv1"]


def test_model_files_do_not_load_calculators() -> None:
    rooms = ("dependencies", "declared", "tracing", "weight_transfer")
    heavy = ["libcst", *(f"secateur.pruners.{room}" for room in rooms)]
    code = f"import sys, secateur.models.cifar.resnet; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
