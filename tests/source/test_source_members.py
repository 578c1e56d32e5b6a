"""What scripts read of an author's classes besides ``forward``: attributes, constants, methods, the docstring."""

from __future__ import annotations

import importlib
import json
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from source_helpers import beside_arguments, load
from torch import nn

from secateur import prune
from secateur.commands.show.tables import outcome
from secateur.models.cifar.resnet import resnet20
from secateur.pruners.bundle import Bundle

_NUMBER = count(1)
HEAD = "import torch\nimport torch.nn.functional as F\nfrom torch import nn\n\n\n"


def halved(folder: Path, text: str, skip: tuple[str, ...] = ()) -> tuple[Bundle, Any]:
    """The bundle of ``Net()`` of a file with half of its channels, and the written network with its weights."""
    name = f"members{next(_NUMBER)}"
    (folder / f"{name}.py").write_text(text)
    importlib.invalidate_caches()
    torch.manual_seed(0)
    module = importlib.import_module(name)
    bundle = prune(module.Net().eval(), torch.randn(2, 3, 8, 8), ratio=0.5, skip=skip, output=folder / "out")
    assert isinstance(bundle, Bundle)
    made = load(bundle.file.read_text(), folder).Net()
    made.load_state_dict(torch.load(folder / "out/weights.pth", weights_only=True))
    return bundle, made.eval()


FORWARD = "return self.fc(self.b(self.a(x).relu()).relu().mean((2, 3)))"


def net(init: str, forward: str = FORWARD, rest: str = "") -> str:
    return f'''{HEAD}class Net(nn.Module):
    def __init__(self, width=8, classes=5):
        super().__init__()
        self.a = nn.Conv2d(3, width, 3, padding=1)
        self.b = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.fc = nn.Linear(2 * width, classes)
{init}
    def forward(self, x):
        {forward}
{rest}'''


def test_a_tensor_that_forward_multiplies_channels_with_keeps_its_values_and_these_channels_stay(folder: Path) -> None:
    init = "        self.gains = torch.arange(2.0 * width)\n"
    _, made = halved(folder, net(init, "return self.fc(self.b(self.a(x)).mean((2, 3)) * self.gains)"))
    assert made.gains.tolist() == list(range(16)) and made.b.out_channels == 16 and made.a.out_channels == 4


def test_what_counts_channels_of_several_widths_is_left_out_and_said(folder: Path) -> None:
    bundle, made = halved(folder, net("        self.levels = [width * 2**i for i in range(3)]\n"), skip=("b",))
    assert not hasattr(made, "levels")
    assert beside_arguments(bundle.summary["lost"]) == ["Net.levels"]
    assert json.loads((folder / "out/summary.json").read_text())["lost"] == [*bundle.summary["lost"]]


def test_attributes_follow_the_widths_that_their_expressions_give_to_layers(folder: Path) -> None:
    init = """        self.embed_dim = 2 * width
        self.channels = [width, 2 * width]
        self.num_features = self.out_dim = 2 * width
        self.feature_info = [dict(num_chs=width, reduction=1), dict(num_chs=2 * width, reduction=2)]
        self.n_classes, self.names = classes, {i: f"class {i}" for i in range(classes)}
        self.stride = 16
"""
    bundle, made = halved(folder, net(init))
    assert made.embed_dim == made.fc.in_features == made.b.out_channels == 8
    assert made.channels == [4, 8]
    assert made.num_features == made.out_dim == 8
    assert [info["num_chs"] for info in made.feature_info] == [4, 8]
    assert "self.num_features = self.out_dim = " in (folder / "out/model.py").read_text()
    assert (made.n_classes, made.names[4], made.stride) == (5, "class 4", 16)
    assert bundle.summary["lost"] == ()


def test_an_attribute_adds_up_several_widths(folder: Path) -> None:
    text = HEAD + """class Branches(nn.Module):
    def __init__(self, cin, left, right, pool):
        super().__init__()
        self.left = nn.Conv2d(cin, left, 1)
        self.right = nn.Conv2d(cin, right, 3, padding=1)
        self.pool = nn.Conv2d(cin, pool, 1)
        self.out_channels = left + right + pool

    def forward(self, x):
        return torch.cat([self.left(x), self.right(x), self.pool(x)], 1).relu()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = Branches(3, 4, 8, 8)
        self.two = Branches(self.one.out_channels, 8, 12, 8)
        self.fc = nn.Linear(self.two.out_channels, 5)

    def forward(self, x):
        return self.fc(self.two(self.one(x)).mean((2, 3)))
"""
    bundle, made = halved(folder, text)
    assert bundle.summary["lost"] == ()
    assert (made.one.out_channels, made.two.out_channels) == (10, 14)
    assert "self.out_channels = left + right + pool" in bundle.file.read_text()


def test_values_that_no_literal_says_are_made_again_by_the_authors_statement(folder: Path) -> None:
    init = """        self.lock = threading.Lock()
        self.order = OrderedDict(first=1)
        self.mean = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)
"""
    text = "import threading\nfrom collections import OrderedDict\n" + net(
        init, "return self.fc(self.b(self.a(x - self.mean).relu()).mean((2, 3)))"
    )
    bundle, made = halved(folder, text)
    assert made.lock.acquire(blocking=False)
    assert dict(made.order) == {"first": 1}
    assert "self.mean = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)" in bundle.file.read_text()


def test_methods_constants_and_properties_stay_and_work(folder: Path) -> None:
    rest = '''
    SIZE = 8

    def predict(self, x):
        """The best class."""
        return self(x).argmax(1)

    @property
    def width(self):
        return self.b.out_channels

    def freeze(self):
        self.frozen = True
        return self.a.requires_grad_(not self.frozen)
'''
    bundle, made = halved(folder, net("", rest=rest))
    assert made.predict(torch.randn(2, 3, 8, 8)).shape == (2,)
    assert (made.SIZE, made.width, made.freeze().weight.requires_grad) == (8, 8, False)
    assert bundle.summary["lost"] == ()


def test_attributes_that_a_builder_puts_on_layers_are_put_there_again(folder: Path) -> None:
    build = """def build(width):
    layers = [nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)]
    for i, layer in enumerate(layers):
        layer.i, layer.f = i, -1 if i < 2 else 0
    return nn.Sequential(*layers)


"""
    body = f"""{HEAD}{build}class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = build(8)
        self.fc = nn.Linear(16, 5)

    def forward(self, x):
        y = []
        for layer in self.model:
            x = layer(x if layer.f == -1 else y[layer.f])
            y.append(x)
        return self.fc(torch.cat([y[1], y[2]], 1).mean((2, 3)))
"""
    _, made = halved(folder, body)
    assert [(layer.i, layer.f) for layer in made.model] == [(0, -1), (1, -1), (2, 0)]


def test_the_files_docstring_stays_and_a_second_pruning_adds_nothing_to_it(folder: Path) -> None:
    bundle, _ = halved(folder, '"""Networks for things.\n\nInput is BGR."""\n' + net(""))
    assert bundle.file.read_text().startswith('"""Networks for things.\n\nInput is BGR.\n\nSource:   ')
    again = prune(
        load_file(folder, bundle.file.read_text()), torch.randn(2, 3, 8, 8), ratio=0.5, output=folder / "again"
    )
    text = again.file.read_text()
    assert text.startswith('"""Networks for things.\n\nInput is BGR.\n\nSource:   ')
    assert text.count("Source:   ") == 1


def load_file(folder: Path, text: str) -> nn.Module:
    name = f"members{next(_NUMBER)}"
    (folder / f"{name}.py").write_text(text)
    importlib.invalidate_caches()
    made: nn.Module = importlib.import_module(name).Net()
    return made.eval()


def test_what_a_decorator_of_ours_notes_on_a_class_is_not_told_as_lost() -> None:
    bundle = prune(resnet20(), torch.zeros(1, 3, 32, 32), ratio=0.5)
    assert not any("_secateur" in name for name in bundle.summary["lost"])


@pytest.mark.parametrize("skip", [(), ("a",)], ids=["all_pruned", "one_kept"])
def test_what_methods_count_while_the_constructor_runs_is_not_counted_twice(
    folder: Path, skip: tuple[str, ...]
) -> None:
    text = HEAD + """class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.depth = self.steps = 0
        self.names = []
        self.kinds = {}
        self.a = self.conv(3, 16)
        self.note("a")
        self.b = self.conv(16, 16)
        self.note("b")
        self.fc = nn.Linear(16, 5)

    def conv(self, a, b):
        self.depth += 1
        return nn.Conv2d(a, b, 3, padding=1)

    def note(self, name):
        self.kinds[name] = len(self.kinds)
        self.names.append(name)
        self.steps = self.steps + 1

    def forward(self, x):
        return self.fc(self.b(self.a(x).relu()).relu().mean((2, 3)))
"""
    _, made = halved(folder, text, skip)
    assert (made.depth, made.steps, made.names, made.kinds) == (2, 2, ["a", "b"], {"a": 0, "b": 1})


@pytest.mark.parametrize("skip", [(), ("blocks.0",)], ids=["in_a_loop_that_stays", "in_a_loop_that_goes"])
def test_lists_that_a_loop_fills_beside_its_layers_end_as_they_did(folder: Path, skip: tuple[str, ...]) -> None:
    init = """        self.names = []
        layers = []
        for i in range(2):
            layers.append(nn.Conv2d(2 * width, 2 * width, 1))
            self.names.append(f"block{i}")
        self.blocks = nn.Sequential(*layers)
"""
    _, made = halved(folder, net(init, "return self.fc(self.blocks(self.b(self.a(x).relu())).mean((2, 3)))"), skip)
    assert made.names == ["block0", "block1"]


def test_numbers_written_twice_follow_a_layers_argument_of_that_name_and_are_told_otherwise(folder: Path) -> None:
    init = """        sizes = [8, 16]
        self.c = nn.Conv2d(16, 16, 1)
        self.out_channels = 16
        self.dim = 16
        self.feature_dims = sizes
        self.info = {"a": {"channels": 8}, "stride": 4}
        self.stride, self.image_size = 4, width
"""
    bundle, made = halved(folder, net(init, "return self.fc(self.c(self.b(self.a(x).relu())).mean((2, 3)))"))
    assert (made.out_channels, made.dim, made.feature_dims) == (8, 16, [8, 16])
    assert bundle.summary["stale"] == ("Net.dim", "Net.feature_dims", "Net.info")
    assert json.loads((folder / "out/summary.json").read_text())["stale"] == list(bundle.summary["stale"])
    assert any("Net.dim, Net.feature_dims, Net.info stay" in str(line) for line in outcome(bundle))


def test_a_file_without_attributes_for_scripts_has_nothing_stale(folder: Path) -> None:
    bundle, _ = halved(folder, net(""))
    assert bundle.summary["stale"] == ()


BACKBONE = """class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.frozen = False


class Backbone(Base):
    def __init__(self, widths=(8, 16, 24)):
        super().__init__()
        layers, c = [], 3
        for w in widths:
            layers += [nn.Conv2d(c, w, 3, padding=1), nn.ReLU()]
            c = w
        self.body = nn.Sequential(*layers)
        self.num_features = widths[-1]
        self.last = c
        self.first = self.body[0].out_channels
        self.widths = list(widths)
        self.info = [dict(channels=w, stride=1, padding=1, bias=True) for w in widths]
        self.total = sum(widths)

    def forward(self, x):
        return self.body(x)


class Net(Base):
    def __init__(self):
        super().__init__()
        self.backbone = Backbone()
        self.num_features = self.backbone.num_features
        self.fc = nn.Linear(self.num_features, 5)
        self.inputs = self.fc.in_features

    def forward(self, x):
        return self.fc(self.backbone(x).mean((2, 3)))
"""


def test_attributes_follow_widths_through_loops_in_a_class_whose_parent_has_a_constructor(folder: Path) -> None:
    bundle, made = halved(folder, HEAD + BACKBONE)
    assert (made.num_features, made.inputs, made.frozen) == (12, 12, False)
    back = made.backbone
    assert (back.num_features, back.last, back.first, back.widths, back.total) == (12, 12, 4, [4, 8, 12], 24)
    assert [i["channels"] for i in back.info] == [4, 8, 12]
    assert max(map(len, bundle.file.read_text().split("\n"))) <= 120
    assert (beside_arguments(bundle.summary["lost"]), bundle.summary["stale"]) == ([], ())


def test_what_a_loop_counts_of_layers_that_are_other_ones_now_is_left_out_and_said(folder: Path) -> None:
    loop = """        c, layers = 2 * width, []
        for _ in range(3):
            layers.append(nn.Conv2d(c, 2 * width, 1))
            c = 2 * width
        self.blocks = nn.Sequential(*layers)
        self.last = c
"""
    forward = "return self.fc(self.blocks(self.b(self.a(x).relu()).relu()).mean((2, 3)))"
    bundle, made = halved(folder, net(loop, forward), skip=("blocks.1",))
    assert beside_arguments(bundle.summary["lost"]) == ["Net.last"] and not hasattr(made, "last")


def test_what_reads_a_part_is_said_again_and_goes_with_what_the_part_lost(folder: Path) -> None:
    text = HEAD + """class Body(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        layers, c = [nn.Conv2d(3, 2 * width, 3)], 2 * width
        for _ in range(3):
            layers.append(nn.Conv2d(c, 2 * width, 1))
            c = 2 * width
        self.blocks = nn.Sequential(*layers)
        self.last, self.depth = c, 3

    def forward(self, x):
        return self.blocks(x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = Body()
        self.last = self.body.last
        self.both = (self.body.last, self.body.depth)
        self.depth = self.body.depth
        self.widths = [b.out_channels for b in self.body.blocks]
        self.fc = nn.Linear(16, 5)

    def forward(self, x):
        return self.fc(self.body(x).mean((2, 3)))
"""
    bundle, made = halved(folder, text, skip=("body.blocks.1",))
    assert (made.widths, made.depth) == ([8, 16, 8, 8], 3)
    assert set(beside_arguments(bundle.summary["lost"])) == {"Net.last", "Net.both", "Body.last"}


RATIOS = HEAD + """class Block(nn.Module):
    expansion = {0}
    kernel = 3
    label = "plain"

    def __init__(self, cin, width):
        super().__init__()
        self.conv = nn.Conv2d(cin, width * self.expansion, self.kernel, padding=1)

    def forward(self, x):
        return self.conv(x).relu()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = Block(3, 8), Block(8 * {0}, 8)
        self.fc = nn.Linear(8 * Block.expansion, 5)

    def forward(self, x):
        return self.fc(self.second(self.first(x)).mean((2, 3)))
"""


@pytest.mark.parametrize("ratio", [1, 4])
def test_a_ratio_of_widths_stays_where_constructors_multiply_with_it(folder: Path, ratio: int) -> None:
    bundle, made = halved(folder, RATIOS.format(ratio), skip=("first.conv",))
    assert bundle.summary["lost"] == ()
    assert (made.first.kernel, made.first.label, made.first.expansion) == (3, "plain", ratio)
    assert (made.first.conv.out_channels, made.second.conv.out_channels) == (8 * ratio, 4 * ratio)


def test_methods_that_the_body_of_a_class_names_stay(folder: Path) -> None:
    rest = """
    def _shown(function):
        return function

    @_shown
    def _part(self, x, name):
        return getattr(self, name)(x).relu()

    first = functools.partialmethod(_part, name="a")
    ways = {"b": _part}
    predict = forward
"""
    text = net("", 'return self.fc(self.ways["b"](self, self.first(x), "b").mean((2, 3)))', rest)
    _, made = halved(folder, "import functools\n" + text)
    assert made.predict(torch.randn(2, 3, 8, 8)).shape == (2, 5) and made.a.out_channels == 4


def test_latent_weights_that_forward_keeps_on_a_parameter_are_those_that_are_written(folder: Path) -> None:
    """As in the first binary networks for torch: signs take the place of the weights, which are kept beside them."""
    layer = """class Binary(nn.Conv2d):
    def forward(self, x):
        if not hasattr(self.weight, "org"):
            self.weight.org = self.weight.data.clone()
        self.weight.data = self.weight.org.sign()
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding)


class Net"""
    text = net("").replace("class Net", layer).replace("self.b = nn.Conv2d", "self.b = Binary")
    _, made = halved(folder, text)
    assert made.b.weight.shape == (8, 4, 3, 3) and made.b.weight.unique().numel() == made.b.weight.numel()


def test_numbers_of_numpy_and_in_lists_are_held_against_the_widths(folder: Path) -> None:
    forward = """x = self.a(x).relu()
        x = x * x.sum((1, 2, 3), True) / np.prod(x.shape[1:]) / np.sqrt(x.shape[1])
        return self.fc((self.b(x) / torch.tensor(x.shape[1:]).prod()).mean((2, 3)))"""
    _, made = halved(folder, "import numpy as np\n" + net("", forward))
    assert made.a.out_channels == 4
