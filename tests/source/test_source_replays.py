"""Constructors that stay as their authors wrote them, with other numbers: where they can't, then what follows."""

from __future__ import annotations

import importlib
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
    "a_layer_of_torchs_with_another_forward": (
        "class Linear(nn.Linear):\n    def forward(self, x):\n        return super().forward(x) * 2\n\n\n"
        + net(LOOP.format(widths="(8, 16)"), "16").replace("self.fc = nn.Linear", "self.fc = Linear"), "in (4, 8):",
    ),
    "a_forward_that_asks_for_the_mode": (
        net(LOOP.format(widths="(8, 16)"), "16").replace(
            "        return", "        if self.training and self.noise:\n            x = x + 1\n        return"
        ).replace("super().__init__()", "super().__init__()\n        self.noise = False"),
        "in (4, 8):",
    ),
    "layers_that_are_torchs_with_other_arguments": (
        "from functools import partial\n\n\n"
        "class Conv(nn.Conv2d):\n    def __init__(self, a, b, *, size=1, **kwargs):\n"
        "        super().__init__(a, b, size, padding=size // 2, **kwargs)\n\n"
        "    def forward(self, x):\n        return super().forward(x).relu()\n\n\n"
        "class Layer(nn.Module):\n    def __init__(self, a, b, kind):\n        super().__init__()\n"
        "        self.conv = kind(a, b, bias=False, device=None)\n\n"
        "    def forward(self, x):\n        return self.conv(x)\n\n\n"
        + net(LOOP.format(widths="(8, 16)").replace("Block(c, w)", "Layer(c, w, partial(Conv, size=3))"), "16"),
        "for w in (4, 8):\n            layers.append(Layer(c, w, partial(Conv, size=3)))",
    ),
}  # fmt: skip


INNER = """class Twice(nn.Module):
    def __init__(self, width, slope=0.1):
        super().__init__()
        self.slope = slope
        self.first = nn.Conv2d(width, {inner}, 3, padding=1)
        self.second = nn.Conv2d({inner}, width, 3, padding=1)

    def forward(self, x):
        return x + self.second(self.first(x).relu() * self.slope)


"""


def test_a_name_that_stands_for_a_narrower_layer_too_is_divided_there(folder: Path) -> None:
    init = """        layers, c = [], 3
        for w in (8, 16):
            layers += [Block(c, w), Twice(width=w)]
            c = w
        self.body = nn.Sequential(*layers)"""
    text = INNER.format(inner="width") + net(init, "16")
    written, made = halved(folder, text, skip=("body.0.conv", "body.2.conv"))
    assert INNER.format(inner="width // 2") in written and init in written
    assert widths(made) == [8, 4, 8, 16, 8, 16]


def test_a_name_that_stands_for_one_other_width_gets_a_number_there(folder: Path) -> None:
    init = """        width = 16
        self.body = nn.Sequential(Block(3, width), Block(width, width), Block(b=width, a=width))"""
    written, made = halved(folder, net(init, "width"), skip=("body.2.conv",))
    assert init.replace("= 16", "= 8").replace("(b=width", "(b=16") in written and "nn.Linear(16, 5)" in written
    assert widths(made) == [8, 8, 16]


def test_a_sum_of_widths_stays_a_sum_where_one_of_them_does_not_change(folder: Path) -> None:
    head = "class Cell(nn.Module):\n    def __init__(self, h, x):\n        super().__init__()\n"
    cell = head + """        self.mix = nn.Conv2d(h + x, h, 1)

    def forward(self, h, x):
        return self.mix(torch.cat([h, x], 1))


"""
    text = cell + net("        self.stem = Block(3, 20)\n        self.cell = Cell(h=15, x=20)", "15").replace(
        "self.body(x)", "self.cell(x.repeat(1, 5, 1, 1), self.stem(x))"
    )
    written, _ = halved(folder, text, skip=("cell.mix",))
    assert "Block(3, 10)" in written and "Cell(h=15, x=10)" in written and cell.strip() in written


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
GROUPED = """class Net(nn.Module):
    def __init__(self, widths=(16, 32), group=8):
        super().__init__()
        self.stem = nn.Conv2d(3, widths[0], 3, padding=1)
        self.one = nn.Conv2d(widths[0], widths[0], 3, padding=1, groups=widths[0] // group)
        self.between = nn.Conv2d(widths[0], widths[1], 1)
        self.two = nn.Conv2d(widths[1], widths[1], 3, padding=1, groups=widths[1] // group)
        self.fc = nn.Linear(widths[-1], 5)

    def forward(self, x):
        return self.fc(self.two(self.between(self.one(self.stem(x)).relu()).relu()).mean((2, 3)))
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
    "how wide a group of channels is": (GROUPED, {"widths=(16, 32), group=8": "widths=(8, 16), group=4"}),
    "cases and names within calls": (CHOSEN, {"(c := 8)": "(c := 4)"}),
}  # fmt: skip


ZEROS = """class Lambda(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def behind(x, n):
    return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, n))


class Down(nn.Module):
    def __init__(self, a, b, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(a, b, 3, stride, 1)
        self.short = nn.Sequential()
        if stride != 1 or a != b:
            \"\"\"
        Zeros, as in the paper.
            \"\"\"
            {short}

    def forward(self, x):
        return self.conv(x).relu() + self.short(x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.c = 8
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.one = self.make(8, [1, 1])
        self.two = self.make(16, [2, 1])
        self.fc = nn.Linear(16, 5)

    def make(self, width, strides):
        layers = []
        for stride in strides:
            layers.append(Down(self.c, width, stride))
            self.c = width
        return nn.Sequential(*layers)

    def forward(self, x):
        return self.fc(self.two(self.one(self.stem(x))).mean((2, 3)))
"""
PADDED = "from functools import partial\n\nimport torch.nn.functional as F\n\n\n" + ZEROS
KEPT |= {
    f"zeros padded by {name}": (
        PADDED.format(short=short),
        {"self.c = 8": "self.c = 4", "(3, 8,": "(3, 4,", "make(8,": "make(4,", "make(16,": "make(8,",
         "Linear(16, 5)": "Linear(8, 5)"},
    )
    for name, short in {
        "a lambda": "self.short = Lambda(lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, b // 4, b // 4)))",
        "an attribute": "self.n = b // 4\n            self.short = Lambda(lambda x: "
                        "F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.n, self.n)))",
        "a partial of a function": "self.short = Lambda(partial(behind, n=b - a))",
        "a partial of torch's": "self.short = nn.Sequential(nn.AvgPool2d(1, 2), "
                                "Lambda(partial(F.pad, pad=(0, 0, 0, 0, b // 4, b // 4))))",
    }.items()
}  # fmt: skip
LIMIT = """class Net(nn.Module):
    def __init__(self, base=8, limit=32):
        super().__init__()
        layers, a, b = [], 3, base
        while b <= limit:
            layers += [nn.Conv2d(a, b, 3, padding=1), nn.ReLU()]
            a, b = b, b * 2
        self.body = nn.Sequential(*layers)
        self.fc = nn.Linear(a, 5)

    def forward(self, x):
        return self.fc(self.body(x).mean((2, 3)))
"""
DIVISIBLE = """def divisible(v, divisor=8):
    new = max(divisor, int(v + divisor / 2) // divisor * divisor)
    return new + divisor if new < 0.9 * v else new


class Net(nn.Module):
    def __init__(self, factor=1.0):
        super().__init__()
        layers, a = [], 3
        for b, n in [(8, 1), (24, 2)]:
            for _ in range(n):
                layers.append(Block(a, divisible(b * factor)))
                a = divisible(b * factor)
        self.body = nn.Sequential(*layers)
        self.fc = nn.Linear(a, 5)

    def forward(self, x):
        return self.fc(self.body(x).mean((2, 3)))
"""
NORMED = """class Unit(nn.Module):
    def __init__(self, a, b):
        super().__init__()
        self.one = weight_norm(nn.Conv2d(a, b, 3,
                                         padding=1))
        self.two = nn.Conv2d(b, b, 1)
        utils.spectral_norm(self.two)
        self.net = nn.Sequential(self.one, nn.ReLU(), self.two)

    def forward(self, x):
        return self.net(x)


class Net(nn.Module):
    def __init__(self, widths=(8, 16)):
        super().__init__()
        self.body = nn.Sequential(*[Unit(a, b) for a, b in zip((3, *widths), widths)])
        self.fc = nn.Linear(widths[-1], 5)

    def forward(self, x):
        return self.fc(self.body(x).mean((2, 3)))
"""
PLAIN = NORMED.replace(
    """weight_norm(nn.Conv2d(a, b, 3,
                                         padding=1))""",
    """nn.Conv2d(a, b, 3,
                             padding=1)""",
).replace("        utils.spectral_norm(self.two)\n", "")
FAMILY = """class Base(nn.Module):
    def __init__(self, a, b):
        super().__init__()
        self.conv = nn.Conv2d(a, b, 3, padding=1)
        self.last = nn.Conv2d(b, 16, 1)

    def forward(self, x):
        return self.last(self.conv(x).relu()).relu()


class Same(Base):
    pass


class Other(Base):
    def __init__(self, a, b):
        super().__init__(a, b)
        self.last = nn.Conv2d(b, 24, 1)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(Base(3, 8), Same(16, 12), Other(16, 8))
        self.fc = nn.Linear(24, 5)

    def forward(self, x):
        return self.fc(self.body(x).mean((2, 3)))
"""
LISTED = """CFG = {"gain": 0.5, "layers": [
    # from, kind, arguments
    [-1, "Block", [8]],
    [-1, "Block", [16]],
    [[-1, 0], "Cat", []],
    [-1, "Block", [16]],
]}


class Cat(nn.Module):
    def forward(self, xs):
        return torch.cat(xs, 1)


def parse(cfg, widths):
    layers, save = [], []
    for i, (f, kind, args) in enumerate(cfg["layers"]):
        if kind == "Block":
            c = math.ceil(args[0] * cfg["gain"] / 4) * 4
            layer = Block(widths[f], c)
        else:
            c, layer = sum(widths[x] for x in f), Cat()
        layer.f, layer.i, layer.type = f, i, str(type(layer))[8:-2]
        save.extend(x % i for x in ([f] if isinstance(f, int) else f) if x != -1)
        layers.append(layer)
        widths = [c] if i == 0 else [*widths, c]
    return nn.Sequential(*layers), save


class Net(nn.Module):
    def __init__(self, cfg=None):
        super().__init__()
        self.body, self.save = parse(copy.deepcopy(cfg or CFG), [3])
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        outputs = []
        for layer in self.body:
            x = layer(x if layer.f == -1 else [x if f == -1 else outputs[f] for f in layer.f])
            outputs.append(x if layer.i in self.save else None)
        return self.fc(x.mean((2, 3)))
"""
UNREAD = """class Unit(nn.Module):
    def __init__(self, a, b, stride):
        super().__init__()
        self.stride = stride
        if stride > 1:
            self.short = nn.Conv2d(a, b, 1, stride)
        self.conv = nn.Conv2d(a if stride > 1 else b // 2, b // 2, 3, stride, 1)

    def forward(self, x):
        if self.stride > 1:
            return torch.cat((self.short(x), self.conv(x)), 1)
        one, two = x.chunk(2, dim=1)
        return torch.cat((one, self.conv(two)), 1)


class Net(nn.Module):
    def __init__(self, widths=(8, 16)):
        super().__init__()
        layers, a = [], 3
        for b in widths:
            layers += [Unit(a, b, 2), nn.ReLU(), nn.Conv2d(b + b // 2, b, 1), Unit(b, b, 1)]
            a = b
        self.body = nn.Sequential(*layers)
        self.fc = nn.Linear(a, 5)

    def forward(self, x):
        return self.fc(self.body(x).mean((2, 3)))
"""
TWO_WAYS = """class Norm(nn.Module):
    def __init__(self, c, last=True):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(c))
        self.last, self.shape = last, (c,)

    def forward(self, x):
        if self.last:
            return nn.functional.layer_norm(x, self.shape, self.weight)
        return self.weight[:, None, None] * x


class Net(nn.Module):
    def __init__(self, widths=(8, 16)):
        super().__init__()
        layers, a = [], 3
        for b in widths:
            layers += [nn.Conv2d(a, b, 3, padding=1), Norm(b, last=False), nn.ReLU()]
            a = b
        self.body, self.norm = nn.Sequential(*layers), Norm(a)
        self.fc = nn.Linear(a, 5)

    def forward(self, x):
        return self.fc(self.norm(self.body(x).mean((2, 3))))
"""
KEPT |= {
    "an argument that some instances don't read": (UNREAD, {"widths=(8, 16)": "widths=(4, 8)"}),
    "an attribute that counts channels on one way only": (TWO_WAYS, {"widths=(8, 16)": "widths=(4, 8)"}),
    "a number that only a condition reads": (LIMIT, {"base=8, limit=32": "base=4, limit=16"}),
    "widths that are made divisible": (DIVISIBLE, {"(8, 1), (24, 2)": "(4, 1), (12, 2)"}),
}


def test_a_table_of_layers_stays_with_the_attributes_that_are_put_on_them(folder: Path) -> None:
    written, made = halved(folder, "import copy\nimport math\n\n\n" + LISTED)
    layers = "".join(f"    [-1, \"Block\", [{n}]],\n" for n in (4, 8)) + "    [[-1, 0], \"Cat\", []],\n"
    assert "    # from, kind, arguments\n" + layers + "    [-1, \"Block\", [8]],\n]}" in written
    wanted = LISTED[LISTED.index("def parse") :].replace("/ 4) * 4", "/ 2) * 2").replace("(8, 5)", "(4, 5)")
    assert wanted.strip() in written
    assert [(m.f, m.i) for m in made.body] == [(-1, 0), (-1, 1), ([-1, 0], 2), (-1, 3)]


def test_constructors_stay_of_which_norms_on_weights_are_taken_off(folder: Path) -> None:
    imports = "from torch.nn import utils\nfrom torch.nn.utils.parametrizations import weight_norm\n\n\n"
    written, _ = halved(folder, imports + NORMED)
    assert PLAIN.replace("(8, 16)", "(4, 8)").strip() in written


def test_constructors_of_parents_stay_that_children_inherit_call_or_replace_a_layer_of(folder: Path) -> None:
    written, made = halved(folder, FAMILY)
    changes = {"(b, 16, 1)": "(b, 8, 1)", "(b, 24, 1)": "(b, 12, 1)", "Linear(24, 5)": "Linear(12, 5)",
               "Base(3, 8), Same(16, 12), Other(16, 8)": "Base(3, 4), Same(8, 6), Other(8, 4)"}  # fmt: skip
    wanted = FAMILY
    for old, new in changes.items():
        wanted = wanted.replace(old, new)
    assert wanted.strip() in written
    assert widths(made) == [4, 8, 6, 8, 4, 12]


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


DRAWN = """class Net(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1)
        self.head = nn.Linear(width, 10)
        nn.init.trunc_normal_(self.conv.weight, std=1e-3, a=-2e-3, b=2e-3)
        nn.init.trunc_normal_(self.head.weight, std=1e-3)
        nn.init.zeros_(self.head.bias)
        if self.conv.weight.abs().max() > 2e-3 or not self.conv.weight.abs().max() > 0:
            raise ValueError("it isn't drawn")

    def forward(self, x):
        return self.head(self.conv(x).relu().mean((2, 3)))
"""


def test_a_constructor_stays_that_looks_at_what_it_draws_between_bounds(folder: Path) -> None:
    drawn, left = nn.init.trunc_normal_, torch.full((4, 4), 9.0)
    text, _ = halved(folder, DRAWN)
    assert "def __init__(self, width=8):" in text and 'raise ValueError("it isn\'t drawn")' in text
    assert drawn(left).max() < 3 and nn.init.trunc_normal_ is drawn
