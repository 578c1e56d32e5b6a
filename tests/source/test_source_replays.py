"""Constructors that stay as their authors wrote them, with other numbers: where they can't, then what follows."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import torch
from source_helpers import load
from torch import nn

from secateur import prune
from secateur.pruners.bundle import Bundle
from secateur.pruners.entry import Entry

_NUMBER = count(1)
HEAD = "import torch\nfrom torch import nn\n\n\n"
BLOCK = """class Block(nn.Module):
    def __init__(self, a, b):
        super().__init__()
        self.conv = nn.Conv2d(a, b, 3, padding=1)

    def forward(self, x):
        return self.conv(x).relu()


"""
NET = """class Net(nn.Module):
{before}    def __init__(self{parameters}):
        super().__init__()
{init}
        self.fc = nn.Linear({last}, 5)

{methods}    def forward(self, x):
        return self.fc(self.body(x).mean((2, 3)))
"""
LOOP = """        layers, c = [], 3
        for w in {widths}:
            layers.append(Block(c, w))
            c = w
        self.body = nn.Sequential(*layers)"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    sys.path.insert(0, str(tmp_path))
    yield tmp_path
    sys.path.remove(str(tmp_path))


def net(init: str, last: str, parameters: str = "", methods: str = "", before: str = "") -> str:
    return NET.format(before=before, parameters=parameters, init=init, last=last, methods=methods)


def halved(folder: Path, text: str, skip: tuple[str, ...] = ()) -> tuple[str, nn.Module]:
    """The written file of ``Net()`` with half of the channels, and its network, which computes what the sliced one
    does."""
    name = f"replays{next(_NUMBER)}"
    (folder / f"{name}.py").write_text(HEAD + BLOCK + text)
    importlib.invalidate_caches()
    torch.manual_seed(0)
    factory = importlib.import_module(name).Net
    entry = None if isinstance(factory, type) else Entry(factory, name="Net")
    bundle = prune(
        factory().eval(), torch.randn(2, 3, 8, 8), ratio=0.5, skip=skip, entry=entry, output=folder / "out"
    )
    assert isinstance(bundle, Bundle)
    made: nn.Module = load(bundle.file.read_text(), folder).Net()
    made.load_state_dict(torch.load(folder / "out/weights.pth", weights_only=True))
    assert bundle.summary["verified"]
    return bundle.file.read_text(), made


def widths(made: nn.Module) -> list[int]:
    return [m.out_channels for m in made.modules() if isinstance(m, nn.Conv2d)]


NOT_KEPT = {
    "one_number_for_layers_that_are_different_now": (
        net("        self.body = nn.Sequential(*[Block(3 if i == 0 else 16, 16) for i in range(3)])", "16"),
        ("body.1.conv",), [8, 16, 8],
    ),
    "a_number_that_goes_through_a_text": (
        net(LOOP.format(widths='[int(w) for w in "8,16".split(",")]'), "16"), (), [4, 8],
    ),
    "a_check_that_the_new_numbers_do_not_pass": (
        net('        if w1 % 8:\n            raise ValueError\n' + LOOP.format(widths="(w1, 16)"), "16", ", w1=8"),
        (), [4, 8],
    ),
    "a_decorated_constructor": (
        "def noted(function):\n    return function\n\n\n"
        + net(LOOP.format(widths="(8, 16)"), "16").replace("    def __init__", "    @noted\n    def __init__", 1),
        (), [4, 8],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "skip", "found"), NOT_KEPT.values(), ids=NOT_KEPT)
def test_a_loop_does_not_stay_with(
    folder: Path, text: str, skip: tuple[str, ...], found: list[int]
) -> None:
    written, made = halved(folder, text, skip)
    assert " for " not in written.split("class Net")[1].split("def forward")[0]
    assert widths(made) == found


KEPT = {
    "a_table_at_the_top": (
        "WIDTHS = [8, 16]\n\n\n" + net(LOOP.format(widths="WIDTHS"), "WIDTHS[-1]"), "WIDTHS = [4, 8]",
    ),
    "a_table_in_the_class": (
        net(LOOP.format(widths="self.widths"), "self.widths[-1]", before="    widths = (8, 16)\n\n"), "widths = (4, 8)",
    ),
    "an_argument_with_a_default": (
        net(LOOP.format(widths="widths"), "widths[-1]", ", widths=(8, 16)"), "widths=(4, 8)",
    ),
    "a_product": (
        net(LOOP.format(widths="[w * 2 for w in (4, 8)]"), "16"), "[w * 2 for w in (2, 4)]",
    ),
    "numbers_in_a_helper": (
        net("        self.body = self.make(2)", "16", methods="""    def make(self, depth):
        layers, c = [], 3
        for i in range(depth):
            layers.append(Block(c, 8 * (i + 1)))
            c = 8 * (i + 1)
        return nn.Sequential(*layers)

"""), "4 * (i + 1)",
    ),
    "a_class_that_is_handed_on": (
        net("        self.body = nn.Sequential(kind(3, 8), kind(8, 16))", "16", ", kind=Block"),
        "nn.Sequential(kind(3, 4), kind(4, 8))",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "said"), KEPT.values(), ids=KEPT)
def test_a_constructor_stays_but_for_numbers_in(folder: Path, text: str, said: str) -> None:
    written, made = halved(folder, text)
    assert said in written
    assert widths(made) == [4, 8]


def test_everything_else_in_the_constructor_stays_letter_by_letter(folder: Path) -> None:
    init = """        layers, c = [], 3  # RGB
        # from fine to coarse
        for i, w in enumerate((8, 16)):
            assert w % 2 == 0, f"{w}"
            layers.append( Block(c,  w) )
            c = w
        self.body = nn.Sequential(*layers)"""
    written, _ = halved(folder, net(init, "16"))
    assert init.replace("(8, 16)", "(4, 8)") in written


def test_attributes_that_scripts_read_follow_with_the_loop(folder: Path) -> None:
    init = LOOP.format(widths="(8, 16)") + """
        self.out_channels = c
        self.num_features = w * 2
        self.num_classes = 5"""
    written, made = halved(folder, net(init, "16"))
    assert "self.out_channels = c" in written
    assert (made.out_channels, made.num_features, made.num_classes) == (8, 16, 5)


FACTORY = """CFGS = {{"A": [8, "M", 16], "B": [8, 8, 16]}}


def make_layers(cfg, norm=False):
    layers, c = [], 3
    for v in cfg:
        if v == "M":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(c, v, 3, padding=1), nn.ReLU()]
            c = v
    return nn.Sequential(*layers)


def noted(function):
    return function


class VGG(nn.Module):
    def __init__(self, features, classes=5):
        super().__init__()
        self.features = features
        self.fc = nn.Linear(16, classes)

    def forward(self, x):
        return self.fc(self.features(x).mean((2, 3)))


def vgg_b():
    return VGG(make_layers(CFGS["B"]))


{factory}
"""
MAKES = '''def Net(pretrained=False):
    """Eight layers fewer."""
    return VGG(make_layers(CFGS["A"]))'''


def test_a_factory_stays_with_its_helper_and_the_numbers_in_its_table(folder: Path) -> None:
    written, made = halved(folder, FACTORY.format(factory=MAKES))
    assert MAKES in written and "def vgg_b" not in written
    assert 'CFGS = {"A": [4, "M", 8], "B": [8, 8, 16]}' in written
    assert "    def __init__(self, features, classes=5):" in written and "nn.Linear(8, classes)" in written
    assert widths(made) == [4, 8]


def test_a_factory_stays_that_changes_layers_afterwards(folder: Path) -> None:
    changed = "\n    net.features[0] = nn.Conv2d(3, 8, 3, bias=False)\n    return net"
    factory = MAKES.replace("return", "net =") + changed
    written, made = halved(folder, FACTORY.format(factory=factory))
    assert "    net.features[0] = nn.Conv2d(3, 4, 3, bias=False)\n" in written and widths(made) == [4, 8]


def test_a_factory_does_not_stay_where_a_number_in_its_table_stands_for_two_widths(folder: Path) -> None:
    factory = MAKES.replace('CFGS["A"]', "2 * [16]")
    written, made = halved(folder, FACTORY.format(factory=factory), skip=("features.0",))
    assert "make_layers" not in written and widths(made) == [16, 8]


PARENT = """class MLP(nn.Sequential):
    def __init__(self, c, hidden, dropout=0.0):
        layers = []
        for h in hidden:
            layers += [nn.Linear(c, h), nn.Dropout(dropout)]
            c = h
        super().__init__(*layers)


class Twice(MLP):
    def __init__(self, dim, hidden):
        super().__init__(dim, [hidden, dim])
        self.dim = dim


class Net(nn.Module):
    def __init__(self, dim=8):
        super().__init__()
        self.embed = nn.Conv2d(3, dim, 1)
        blocks = []
        for _ in range(2):
            blocks.append({block})
        self.blocks = nn.ModuleList(blocks)
        self.fc = nn.Linear(dim, 5)

    def forward(self, x):
        x = self.embed(x).mean((2, 3))
        for block in self.blocks:
            x = x + block(x).relu()
        return self.fc(x)
"""


def test_a_loop_of_blocks_stays_whose_class_has_a_parent_with_a_constructor(folder: Path) -> None:
    text = PARENT.format(block="Twice(dim, 16)")
    written, made = halved(folder, text)
    assert PARENT.split("class Twice")[0] in written
    assert "def __init__(self, dim=4):" in written and "blocks.append(Twice(dim, 8))" in written
    assert [b.dim for b in made.blocks] == [4, 4]


def test_a_parents_constructor_does_not_stay_where_one_of_its_children_can_not(folder: Path) -> None:
    wide = PARENT.split("class Net")[0].split("class Twice")[1].replace("[hidden, dim]", "[hidden, hidden, dim]")
    text = PARENT.replace("class Net", f"class Wide{wide}class Net", 1).format(block="(Wide if _ else Twice)(dim, 16)")
    written, made = halved(folder, text, ("blocks.1.0",))
    sizes = [m.out_features for m in made.modules() if isinstance(m, nn.Linear)]
    assert sizes == [8, 4, 16, 8, 4, 5] and written.count("class ") == 5
    assert BLOCK.strip() in written  # which nothing uses


# -- constructors without a loop


CONVS = "        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, padding=1))"
SIZED = """class Net(nn.Module):
    def __init__(self, width=8, hidden=32, mean=True):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1); self.act = nn.ReLU()
        self.fc = nn.Sequential(nn.Linear(width * 8 * 8, hidden), nn.Dropout(0.1), nn.Linear(hidden, 5))

    def forward(self, x):
        return self.fc(self.act(self.conv(x)).flatten(1))
"""
U_NET = """def double(a, b):
    return nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.Conv2d(b, b, 3, padding=1), nn.ReLU())


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = double(3, 8), double(8, 16)
        self.up = double(8 + 16, 8)
        self.out = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        x = self.one(x)
        return self.out(self.up(torch.cat([x, self.two(x)], 1)))
"""
NAMED = """class Layer(nn.Sequential):
    def __init__(self, a, b):
        super().__init__(OrderedDict([
            ("conv", nn.Conv2d(a, b, 3, padding=1)),  # as usual
            ("act", nn.ReLU()),
        ]))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = Layer(3, 8), Layer(8, 16)
        self.gain = nn.ParameterDict({"two": nn.Parameter(torch.ones(16, 1, 1))})
        self.fc = nn.Linear(16, 5)

    def forward(self, x):
        return self.fc((self.two(self.one(x)) * self.gain["two"]).mean((2, 3)))
"""
CHOSEN = """class Net(nn.Module):
    def __init__(self, norm="batch"):
        super().__init__()
        match norm:
            case "batch":
                make = nn.BatchNorm2d
            case _:
                raise ValueError(f"unknown norm {norm!r}")
        self.body = nn.Sequential(nn.Conv2d(3, (c := 8), 3, padding=1), make(c), nn.ReLU())
        self.fc = nn.Linear(c, 5)

    def forward(self, x):
        return self.fc(self.body(x).mean((2, 3)))
"""
SET = """class Net(nn.Module):
    def __init__(self, width=4, depth=3):
        super().__init__()
        self.depth, c = depth, 3
        for i in range(depth):
            setattr(self, "conv%d" % i, nn.Conv2d(c, width * 2**i, 3, padding=1))
            c = width * 2**i
        self.fc = nn.Linear(c, 5)

    def forward(self, x):
        for i in range(self.depth):
            x = getattr(self, "conv%d" % i)(x).relu()
        return self.fc(x.mean((2, 3)))
"""
DENSE = """class Dense(nn.Module):
    def __init__(self, cin, growth, n):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(cin + i * growth, growth, 3, padding=1) for i in range(n))
        self.out_channels = cin + n * growth

    def forward(self, x):
        for layer in self.layers:
            x = torch.cat([x, layer(x).relu()], 1)
        return x


class Net(nn.Module):
    def __init__(self, growth=4):
        super().__init__()
        self.stem = nn.Conv2d(3, 2 * growth, 3, padding=1)
        self.dense = Dense(2 * growth, growth, 3)
        self.fc = nn.Linear(self.dense.out_channels, 5)

    def forward(self, x):
        return self.fc(self.dense(self.stem(x)).mean((2, 3)))
"""
ORDERED = "from collections import OrderedDict\n\n\n"
KEPT = {
    "numbers in their places": (
        net(CONVS, "16"), {"(3, 8,": "(3, 4,", "(8, 16,": "(4, 8,", "Linear(16, 5)": "Linear(8, 5)"},
    ),
    "arguments that are widths, and what counts places": (SIZED, {"width=8, hidden=32": "width=4, hidden=16"}),
    "a helper, and sums of widths": (
        U_NET, {"double(3, 8), double(8, 16)": "double(3, 4), double(4, 8)", "double(8 + 16, 8)": "double(4 + 8, 4)",
                "Conv2d(8, 2, 1)": "Conv2d(4, 2, 1)"},
    ),
    "named layers of a parent's constructor": (
        ORDERED + NAMED, {"Layer(3, 8), Layer(8, 16)": "Layer(3, 4), Layer(4, 8)", "ones(16,": "ones(8,",
                          "Linear(16, 5)": "Linear(8, 5)"},
    ),
    "attributes with names that are computed": (SET, {"width=4": "width=2"}),
    "attributes of blocks that count channels": (DENSE, {"growth=4": "growth=2"}),
    "cases and names within calls": (CHOSEN, {"(c := 8)": "(c := 4)"}),
}  # fmt: skip


@pytest.mark.parametrize(("text", "changes"), KEPT.values(), ids=KEPT)
def test_a_class_stays_to_the_letter_but_for_its_numbers(folder: Path, text: str, changes: dict[str, str]) -> None:
    written, _ = halved(folder, text)
    wanted = "class Net" + text.rpartition("class Net")[2]
    for old, new in changes.items():
        wanted = wanted.replace(old, new)
    found = written.rpartition("class Net")[2].partition("\n\n\n")[0]  # what makes it is behind
    assert found.strip() == wanted.removeprefix("class Net").strip()


def test_a_branch_that_does_not_run_keeps_no_width_of_before(folder: Path) -> None:
    init = CONVS + "\n        if deep:\n            self.more = nn.Conv2d(16, 16, 1)"
    written, _ = halved(folder, net(init, "16", ", deep=False"))
    assert "16" not in written.partition("class Net")[2]


def test_a_text_of_several_lines_keeps_its_value(folder: Path) -> None:
    init = CONVS + '\n        self.note = """first\n  second\n"""'
    _, made = halved(folder, net(init, "16", methods="    def told(self):\n        return self.note\n\n"))
    assert made.note == "first\n  second\n"
