"""Habits of real code: optional layers, helpers, parents, configs, buffers, ties. Each emitted file is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from source_helpers import assert_writes, body, load
from source_networks import Flat, Gates, Odd, Parts, Tied, Unit, Units, odd, pairs, units
from torch import nn

from secateur.pruners.slicing import slice_model
from secateur.pruners.source import Entry, Header, LiteralSite, write_source
from secateur.pruners.trace.trace import trace

IMAGE = (2, 3, 8, 8)


def _image() -> torch.Tensor:
    return torch.randn(*IMAGE, generator=torch.Generator().manual_seed(0))


CASES: list[tuple[str, Callable[..., nn.Module], Mapping[str, Any], str]] = [
    ("optional layers and helper functions", units, {}, "units"),
    ("other arguments than the defaults", units, {"num_classes": 3, "dropout": 0.0}, "units"),
    ("a class as its own factory", Units, {}, "Units"),
    ("a class under another name", Units, {"num_classes": 4}, "small_units"),
    ("configs, enums, lambdas, partials and parents", odd, {}, "odd"),
    ("an activation that a block is given for several places", Gates, {}, "Gates"),
    ("one block alone", Unit, {"inp": 3, "oup": 4}, "Unit"),
]


@pytest.mark.parametrize(("factory", "kwargs", "name"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_an_identity_round_trip(
    factory: Callable[..., nn.Module], kwargs: Mapping[str, Any], name: str, tmp_path: Path
) -> None:
    assert_writes(factory(**kwargs), Entry(factory, kwargs, name), tmp_path, _image())


def _pruned(model: nn.Module, x: torch.Tensor, seed: int = 0) -> tuple[nn.Module, tuple[LiteralSite, ...]]:
    graph = trace(model.eval(), x)
    made = torch.Generator().manual_seed(seed)
    kept = {}
    for width in graph.widths:
        if width.n_blocks == 1:
            kept[width.name] = list(range(int(torch.randint(1, width.size + 1, (), generator=made))))
    sliced = slice_model(model, graph, kept, x)
    return sliced.model, sliced.literals


@pytest.mark.parametrize("seed", range(6))
def test_pruned_blocks_with_optional_layers(seed: int, tmp_path: Path) -> None:
    model, literals = _pruned(units(), _image(), seed)
    text = assert_writes(model, Entry(units, {}, "units"), tmp_path, _image(), rewrites=literals)
    assert "class Unit(nn.Module)" in text
    assert "def _make_stage" not in text


def test_helper_functions_are_called_where_they_still_make_the_layer(tmp_path: Path) -> None:
    text = assert_writes(units(), Entry(units, {}, "units"), tmp_path, _image())
    for call in ["conv3x3(inp, hidden)", "conv3x3(hidden, oup, stride)", "self.stem = conv3x3(3, self.in_planes)"]:
        assert call in text
    model, literals = _pruned(units(), _image(), 1)
    text = write_source(model, Entry(units, {}, "units"), rewrites=literals)
    load(text, tmp_path).units().load_state_dict(model.state_dict())
    assert "conv3x3(" in text.split("class Units")[0].split("class Unit")[1]
    model = units()
    model.stem = nn.Conv2d(3, 8, 3, 1, 1, bias=True)
    text = assert_writes(model, Entry(units, {}, "units"), tmp_path, _image())
    assert "self.stem = nn.Conv2d(3, 8," in text


def test_comments_at_elements_of_lists_stay(tmp_path: Path) -> None:
    text = assert_writes(units(), Entry(units, {}, "units"), tmp_path, _image())
    for part in ["# widen\n", "conv3x3(inp, hidden))  # to the middle\n", "# narrow\n", "(oup),  # no activation\n"]:
        assert part in text


def test_a_pruned_file_can_be_pruned_again(tmp_path: Path) -> None:
    model, literals = _pruned(units(), _image(), 1)
    module = load(write_source(model, Entry(units, {}, "units"), rewrites=literals), tmp_path)
    twice, literals = _pruned(module.units(), _image(), 2)
    assert_writes(twice, Entry(module.units, {}, "units"), tmp_path, _image(), rewrites=literals)


def test_shared_modules_and_tied_weights_stay_shared(tmp_path: Path) -> None:
    text = assert_writes(Tied(), Entry(Tied, {}, "Tied"), tmp_path, torch.arange(5))
    twin = load(text, tmp_path).Tied()
    assert twin.out.weight is twin.embed.weight
    assert twin.again is twin.block


def test_ties_made_after_the_constructor_are_restored(tmp_path: Path) -> None:
    model = Parts()
    model.second.conv = model.first.conv
    text = assert_writes(model, Entry(Parts, {}, "Parts"), tmp_path, torch.randn(1, 8, 2, 2))
    assert "self.second.conv = self.first.conv" in text


def test_ties_stand_in_the_lowest_class_that_always_has_them(tmp_path: Path) -> None:
    model = pairs()
    for pair in model.pairs:
        pair.second.conv = pair.first.conv
    text = assert_writes(model, Entry(pairs, {}, "pairs"), tmp_path, torch.randn(1, 8, 2, 2))
    assert text.count("self.second.conv = self.first.conv") == 1
    assert "self.second.conv = self.first.conv" in text.split("class Pairs")[0]
    model = pairs()
    model.pairs[1].second.conv = model.pairs[1].first.conv
    text = assert_writes(model, Entry(pairs, {}, "pairs"), tmp_path, torch.randn(1, 8, 2, 2))
    assert "self.pairs[1].second.conv = self.pairs[1].first.conv" in text.split("class Pairs")[1]


def test_frozen_parameters_stay_frozen(tmp_path: Path) -> None:
    model = Flat()
    model.conv.requires_grad_(False)
    twin = load(write_source(model, Entry(Flat, {}, "Flat")), tmp_path).Flat()
    assert [p.requires_grad for p in twin.parameters()] == [False, False, True, True]


def test_modules_that_evaluate_while_the_model_trains_still_do(tmp_path: Path) -> None:
    model = units()
    model.stage1.eval()
    model.drop.eval()
    text = write_source(model, Entry(units, {}, "units"))
    assert "        self.stage1.eval()\n        self.drop.eval()\n" in text
    module = load(text, tmp_path)
    twin = module.units()
    assert {p: m.training for p, m in twin.named_modules()} == {p: m.training for p, m in model.named_modules()}
    assert body(write_source(twin, Entry(module.units, {}, "units"))) == body(text)
    assert ".eval()" not in write_source(units().eval(), Entry(units, {}, "units"))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_the_type_of_the_weights_is_kept(dtype: torch.dtype, tmp_path: Path) -> None:
    text = assert_writes(Flat().to(dtype), Entry(Flat, {}, "Flat"), tmp_path, _image().to(dtype))
    assert f"self.to({dtype})" in text


def test_a_stale_number_that_all_share_becomes_a_literal(tmp_path: Path) -> None:
    model, literals = _pruned(Flat(), _image(), 3)
    assert literals
    text = assert_writes(model, Entry(Flat, {}, "Flat"), tmp_path, rewrites=literals)
    channels = model.conv.out_channels
    assert f"x.view(-1, {channels * 64})" in text
    assert load(text, tmp_path).Flat()(_image()).shape == (2, 10)


def test_a_stale_number_that_differs_becomes_an_attribute_and_alike_ones_become_one(tmp_path: Path) -> None:
    from source_networks import __file__ as file

    model = Parts()
    model.first.conv = nn.Conv2d(8, 4, 1)
    lines = Path(str(file)).read_text().splitlines()
    line = next(i for i, s in enumerate(lines, 1) if "[:, :4]" in s)
    col = lines[line - 1].index("4]")
    site = LiteralSite(str(file), line, col, line, col + 1, {"first": 3, "second": 5})
    text = assert_writes(model, Entry(Parts, {}, "Parts"), tmp_path, rewrites=[site])
    assert "self.conv(x)[:, :self.width]" in text
    twin = load(text, tmp_path).Parts()
    assert (twin.first.width, twin.second.width) == (3, 5)

    behind = lines[line - 1].index("4:]")
    for values, told in (({"first": 3, "second": 5}, "self.width"), ({"first": 3, "second": 6}, "self.width_2")):
        more = LiteralSite(str(file), line, behind, line, behind + 1, values)
        text = assert_writes(model, Entry(Parts, {}, "Parts"), tmp_path, rewrites=[site, more])
        assert f"self.conv(x)[:, :self.width], x[:, {told}:]" in text


def test_a_factory_that_works_once_is_said_to_lose_its_names(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made: list[nn.Module] = []

    def once() -> nn.Module:
        if made:
            raise ConnectionError("the weights can't be had twice")
        made.append(Flat())
        return made[0]

    write_source(once(), Entry(once, {}, "flat"))
    write_source(made[0], Entry(once, {}, "flat"))
    (said,) = caplog.messages
    assert said.startswith("flat can't be called a second time (ConnectionError: the weights can't be had twice (")
    assert said.endswith("): the written file loses the names, conditions and order of its code")
    assert "test_source_habits.py:" in said


def test_layers_of_comprehensions_are_written_alike_in_every_python(tmp_path: Path) -> None:
    """From Python 3.12 on, a comprehension of a list has no frame of its own."""
    module = load(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, c=8):\n"
        "        super().__init__()\n"
        "        self.a = nn.Sequential(*[nn.Conv2d(in_channels=c, out_channels=c, kernel_size=k) for k in (1, 3)])\n"
        "        self.b = nn.ModuleDict({f'x{c}': nn.Conv2d(\n"
        "            8,\n"
        "            c,\n"
        "            1,\n"
        "        ) for c in (4, 8)})\n"
        "    def forward(self, x):\n"
        "        x = self.a(x)\n"
        "        return self.b['x4'](x).sum() + self.b['x8'](x)\n",
        tmp_path,
    )
    text = assert_writes(module.Net(), Entry(module.Net, {}, "net"), tmp_path, torch.ones(1, 8, 4, 4))
    assert "(*[nn.Conv2d(in_channels=c, out_channels=c, kernel_size=k) for k in (1, 3)])" in text
    assert "nn.ModuleDict({f'x{c}': nn.Conv2d(" in text


def test_the_header_says_what_it_is_told() -> None:
    header = Header("net.py, Flat()", "plan.json", "10", "5", "2 k", "1 k", "weights.pth")
    text = write_source(Flat(), Entry(Flat, {}, "Flat"), header=header)
    for part in ["net.py, Flat()", "10 -> 5 parameters, 2 k -> 1 k MACs", 'torch.load("weights.pth"']:
        assert part in text.split('"""')[1]


def test_writing_is_deterministic() -> None:
    texts = {body(write_source(odd(), Entry(odd, {}, "odd"))) for _ in range(2)}
    assert len(texts) == 1


def test_documentation_of_arguments_that_are_gone_goes() -> None:
    text = write_source(units(), Entry(units, {}, "units"))
    assert "num_classes: width of the last layer." in text
    model, literals = _pruned(units(), _image(), 1)
    assert "expand: how much wider" in text or "expand" not in write_source(
        model, Entry(units, {}, "units"), rewrites=literals
    )


def test_other_networks_of_a_file_stay_with_what_they_read() -> None:
    text = write_source(odd(), Entry(odd, {}, "odd"))
    assert "class Options" in text
    assert "SLOPE = 0.1" in text
    assert "class Tied" in text and "class Parts" in text and "import math" in text
    assert isinstance(odd(), Odd)
