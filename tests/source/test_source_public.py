"""Habits of networks that people publish as single files."""

from __future__ import annotations

import importlib
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from source_helpers import load
from torch import nn

from secateur import prune
from secateur.pruners.bundle import Bundle
from secateur.pruners.entry import Entry
from secateur.pruners.errors import ValueTextError

_NUMBER = count(1)


def halved(folder: Path, text: str, *shape: int, skip: tuple[str, ...] = ()) -> tuple[Bundle, Any]:
    """The bundle of ``make()`` of a file with half of its channels, and the written network with its weights."""
    name = f"public{next(_NUMBER)}"
    (folder / f"{name}.py").write_text(text)
    importlib.invalidate_caches()
    torch.manual_seed(0)
    factory = importlib.import_module(name).make
    bundle = prune(
        factory().eval(), torch.randn(2, *shape), ratio=0.5, skip=skip, entry=Entry(factory), output=folder / "out"
    )
    assert isinstance(bundle, Bundle)
    made = load(bundle.file.read_text(), folder).make()
    made.load_state_dict(torch.load(folder / "out/weights.pth", weights_only=True))
    assert bundle.summary["verified"]
    return bundle, made.eval()


def changes(bundle: Bundle, text: str) -> set[str]:
    """Lines of the written file that the author's doesn't have."""
    return set(bundle.file.read_text().split('"""', 2)[2].splitlines()) - set(text.splitlines())


RATIO = """import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, dim, mlp_ratio=4.0, drop=0.0):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        hidden = int(dim * mlp_ratio)
        self.mlp_ratio = mlp_ratio
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)
        self.drop = nn.Dropout(drop)

    def forward(self, x):
        return x + self.drop(self.fc2(self.fc1(self.norm(x)).relu()))


class Net(nn.Module):
    def __init__(self, dim=16, depth=3, mlp_ratio=2.0, drop_rate=0.1):
        super().__init__()
        self.stem = nn.Linear(8, dim)
        rates = [r.item() for r in torch.linspace(0, drop_rate, depth)]
        self.blocks = nn.Sequential(*[Block(dim, mlp_ratio, rates[i]) for i in range(depth)])
        self.head = nn.Linear(dim, 5)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)))


def make():
    return Net()
"""


@pytest.mark.parametrize(("skip", "dim", "ratio"), [(("stem",), 16, "1.0"), ((), 8, "2.0")], ids=["other", "same"])
def test_a_ratio_follows_only_where_widths_are_in_another_one(
    folder: Path, skip: tuple[str, ...], dim: int, ratio: str
) -> None:
    bundle, made = halved(folder, RATIO, 8, skip=skip)
    init = f"    def __init__(self, dim={dim}, depth=3, mlp_ratio={ratio}, drop_rate=0.1):"
    assert changes(bundle, RATIO) - {"", init} == set() and init in bundle.file.read_text()
    assert {b.mlp_ratio for b in made.blocks} == {float(ratio)} and not bundle.summary["lost"]


MIXER = '''from torch import nn

pair = lambda x: x if isinstance(x, tuple) else (x, x)


class Residual(nn.Module):
    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def forward(self, x):
        return self.fn(x) + x


"""Widths that were tried: 16."""


def feed(dim, hidden, drop=0.0):
    return nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(drop), nn.Linear(hidden, dim))


def mixer(*, dim, depth, classes, factor=4):
    return nn.Sequential(
        nn.Linear(8, dim),
        *[nn.Sequential(nn.LayerNorm(dim), Residual(feed(dim, int(factor * dim)))) for _ in range(depth)],
        nn.LayerNorm(dim),
        nn.Linear(dim, classes),
    )


def make():
    """A small one."""
    return mixer(dim=16, depth=3, classes=5)
'''


def test_functions_that_make_a_sequential_stay_and_the_file_has_nothing_else(folder: Path) -> None:
    bundle, made = halved(folder, MIXER, 8)
    assert changes(bundle, MIXER) == {"    return mixer(dim=8, depth=3, classes=5)"}
    assert not bundle.summary["lost"] and type(made) is nn.Sequential


def test_a_sequential_whose_widths_differ_is_written_out_and_its_functions_are_told(folder: Path) -> None:
    bundle, _ = halved(folder, MIXER, 8, skip=("2.1.fn.0",))
    written = bundle.file.read_text()
    assert "class MakeLayers" not in written and "nn.Linear(8, 64)" in written
    assert [t.split()[0] for t in bundle.summary["lost"]] == ["feed", "mixer"]


HOLDERS = """from torch import nn


class Block(nn.Module):
    def __init__(self, a, b):
        super().__init__()
        self.conv = nn.Conv2d(a, b, 3, padding=1)

    def forward(self, x):
        return self.conv(x).relu()


class Net(nn.Module):
    def __init__(self, ch=8, mult=(1, 2)):
        super().__init__()
        self.levels = len(mult)
        self.down = nn.ModuleList()
        now = 3
        for level in range(self.levels):
            down = nn.Module()
            down.block = nn.ModuleList([Block(now, ch * mult[level])])
            now = ch * mult[level]
            if level != self.levels - 1:
                down.downsample = nn.Conv2d(now, now, 2, 2)
            self.down.append(down)
        self.mid = nn.Module()
        self.mid.block_1 = Block(now, now)
        self.head = nn.Linear(now, 5)

    def forward(self, h):
        for level in range(self.levels):
            h = self.down[level].block[0](h)
            if level != self.levels - 1:
                h = self.down[level].downsample(h)
        return self.head(self.mid.block_1(h).mean((2, 3)))


def make():
    return Net()
"""


def test_a_plain_module_that_holds_layers_and_tensors_is_refused_by_name(folder: Path) -> None:
    text = HOLDERS.replace(
        "        self.mid.block_1", "        self.mid.scale = nn.Parameter(torch.ones(1))\n        self.mid.block_1", 1
    )
    text = text.replace("self.mid.block_1(h)", "self.mid.block_1(h * self.mid.scale)")
    with pytest.raises(ValueTextError, match=r"mid: an nn.Module without a class of its own holds tensors"):
        halved(folder, f"import torch\n{text}", 3, 8, 8)


def test_plain_modules_that_hold_layers_stay_with_their_loop(folder: Path) -> None:
    bundle, _ = halved(folder, HOLDERS, 3, 8, 8)
    assert changes(bundle, HOLDERS) == {"    def __init__(self, ch=4, mult=(1, 2)):"}


def test_plain_modules_whose_layers_differ_become_dicts_with_the_same_keys(folder: Path) -> None:
    bundle, made = halved(folder, HOLDERS, 3, 8, 8, skip=("down.0.downsample",))
    assert "self.mid = nn.ModuleDict({" in bundle.file.read_text()
    assert type(made.down[0]) is nn.ModuleDict and made.down[0].downsample.out_channels == 8
    assert "down.0.block.0.conv.weight" in made.state_dict()


PARTS = """from torch import nn


class Block(nn.Module):
    expansion = 2

    def __init__(self, a, b):
        super().__init__()
        self.c1 = nn.Conv2d(a, b, 3, padding=1)
        self.c2 = nn.Conv2d(b, b * self.expansion, 1)

    def forward(self, x):
        return self.c2(self.c1(x).relu()).relu()


class Net(nn.Module):
    def __init__(self, block, classes=5, parts=3, reduced_dim=16, fc_dims=None):
        self.inplanes = 8
        super().__init__()
        self.parts = parts
        {before}
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.layer1 = self._make_layer(block, 8, 2)
        self.layer2 = self._make_layer(block, 16, 2)
        self.pool = nn.AdaptiveAvgPool2d((self.parts, 1))
        {last}

{more}    def _make_layer(self, block, planes, blocks):
        layers = [block(self.inplanes, planes)]
        self.inplanes = planes * block.expansion
        for _ in range(1, blocks):
            layers.append(block(self.inplanes, planes))
        return nn.Sequential(*layers)

    def forward(self, x):
        f = self.pool(self.layer2(self.layer1(self.stem(x).relu())))
        if not self.training:
            return f.flatten(1)
        {forward}


def make():
    return Net(Block)
"""
TWICE = PARTS.format(
    before="self.feature_dim = 16 * block.expansion",
    last="self.conv5 = nn.Conv2d(16 * block.expansion, reduced_dim, 1)\n        self.feature_dim = reduced_dim\n"
    "        self.classifier = nn.ModuleList([nn.Linear(self.feature_dim, classes) for _ in range(self.parts)])",
    more="",
    forward="f = self.conv5(f)\n        return [self.classifier[i](f[:, :, i, 0]) for i in range(self.parts)]",
)
BY_A_METHOD = PARTS.format(
    before="self.feature_dim = 16 * block.expansion",
    last="self.fc = self._construct(fc_dims, 16 * block.expansion)\n"
    "        self.classifier = nn.Linear(self.feature_dim, classes)",
    more="""    def _construct(self, fc_dims, dim):
        if fc_dims is None:
            self.feature_dim = dim
            return None
        self.feature_dim = fc_dims[-1]
        return nn.Linear(dim, fc_dims[-1])

""",
    forward="return self.classifier(f.mean((2, 3)))",
)


@pytest.mark.parametrize(("text", "now"), [(TWICE, 8), (BY_A_METHOD, 32)], ids=["set_twice", "set_by_a_method_too"])
def test_an_attribute_that_a_layer_is_given_has_what_the_layer_has(folder: Path, text: str, now: int) -> None:
    bundle, made = halved(folder, text, 3, 8, 8)
    assert made.feature_dim == now and "Net.feature_dim" not in bundle.summary["lost"]
    layer = made.classifier[0] if text is TWICE else made.classifier
    assert layer.in_features == now


ASKED = """from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 16, 3)
        self.bn = nn.BatchNorm2d(16)
        self.b = nn.Conv2d(16, 5, 3)

    def forward(self, x):
        for m in self.modules():
            if isinstance(m, nn.BatchNorm2d):
                if hasattr(m.weight, "data"):
                    m.weight.data.clamp_(min=0.01)
        return self.b(self.bn(self.a(x)).relu()).mean((2, 3))


def make():
    return Net()
"""


def test_asking_a_weight_for_an_attribute_is_no_step_of_its_own(folder: Path) -> None:
    _, made = halved(folder, ASKED, 3, 8, 8)
    assert made.a.out_channels == 8


PACKED = """from einops import pack, rearrange, unpack
from torch import nn


def pack_one(t, pattern):
    return pack([t], pattern)


def unpack_one(t, ps, pattern):
    return unpack(t, ps, pattern)[0]


class Net(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.stem = nn.Linear(3, dim)
        self.qkv = nn.Linear(dim, dim * 3)
        self.out = nn.Linear(dim, 5)

    def forward(self, x):
        x, ps = pack_one(self.stem(rearrange(x, "b c h w -> b h w c")), "b * d")
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        x = unpack_one(q * k + v, ps, "b * d")
        x, ps = pack([rearrange(x, "b h w d -> b (h w) d")], "b * d")
        return self.out(unpack_one(x, ps, "b * d").mean(1))


def make():
    return Net()
"""


def test_packing_and_unpacking_keep_no_channels(folder: Path) -> None:
    pytest.importorskip("einops")
    _, made = halved(folder, PACKED, 3, 4, 4)
    assert made.stem.out_features == 8


CALLS_ONCE = """import functools

import torch
from torch import nn


def once(function):
    called = False

    @functools.wraps(function)
    def inner(text):
        nonlocal called
        if not called:
            called = True
            return function(text)

    return inner


print_once = once(print)


class Net(nn.Module):
    def __init__(self, dim=16, rates=None):
        super().__init__()
        if rates is not None and len(rates) != 3:
            raise ValueError("rates should be None "
                             "or a 3-element tuple, got {}".format(rates))
        if rates is not None:
            print_once("rates are ignored")
        self.first, self.last = nn.Linear(8, dim), nn.Linear(dim * 1, 3)

    def forward(self, x):
        return self.last(self.first(x).relu())


def make():
    return Net()
"""


def test_constructors_stay_that_wrap_builtins_and_break_their_messages_in_lines(folder: Path) -> None:
    bundle, _ = halved(folder, CALLS_ONCE, 8)
    assert changes(bundle, CALLS_ONCE) == {"    def __init__(self, dim=8, rates=None):"}
    assert not bundle.summary["lost"]


WIDTHS = """import torch
from torch import nn


class Features(nn.Module):
    def __init__(self, inputs, width=32):
        super().__init__()
        self.widths = [int(width / 4), int(width / 2), width]
        self.net = nn.Sequential(
            nn.Conv2d(inputs, self.widths[0], 3), nn.ReLU(), nn.Conv2d(self.widths[0], self.widths[1], 3), nn.ReLU(),
            nn.Conv2d(self.widths[1], self.widths[2], 3), nn.ReLU(), nn.Conv2d(self.widths[2], self.widths[2], 1))

    def forward(self, x):
        return self.net(x)


class Net(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.features = Features(1, width)

    def forward(self, x):
        return self.features(x)


def make():
    return Net()
"""


def test_a_list_of_widths_that_can_not_follow_is_told_and_not_read(folder: Path) -> None:
    bundle, _ = halved(folder, WIDTHS, 1, 10, 10)
    assert "self.widths" not in bundle.file.read_text()
    assert "Features.widths" in bundle.summary["lost"]


HIDDEN = """import torch
from torch import nn


class Split(nn.Module):
    def __init__(self, c1, c2, e=0.5):
        super().__init__()
        c_ = int(c2 * e)
        self.cv1, self.cv2, self.m = nn.Conv2d(c1, c_, 1), nn.Conv2d(c1, c_, 1), nn.Conv2d(c_, c_, 1)
        self.cv3 = nn.Conv2d(2 * c_, c2, 1)

    def forward(self, x):
        return self.cv3(torch.cat((self.m(self.cv1(x).relu()), self.cv2(x).relu()), 1)).relu()


class Longer(Split):
    def __init__(self, c1, c2, e=0.5, k=3):
        super().__init__(c1, c2, e)
        c_ = int(c2 * e)
        self.m = nn.Sequential(nn.Conv2d(c_, c_, k, padding=k // 2), nn.ReLU(), nn.Conv2d(c_, c_, 1))


class Wide(Split):
    def __init__(self, c1, c2):
        super().__init__(c1, c2)
        self.cv4 = nn.Conv2d(c1, c2, 1)

    def forward(self, x):
        return super().forward(x) + self.cv4(x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.last = Longer(8, 16), Longer(16, 32), Wide(32, 32), nn.Conv2d(32, 3, 1)

    def forward(self, x):
        return self.last(self.c(self.b(self.a(x))))


def make():
    return Net()
"""


def test_a_local_name_stands_before_what_a_parents_constructor_made_with_it(folder: Path) -> None:
    bundle, _ = halved(folder, HIDDEN, 8, 6, 6, skip=("c.cv1",))
    assert bundle.file.read_text().count("c_ = int(c2 * e)") == 1


SHIFTED = """import torch
from torch import nn


class MeanShift(nn.Conv2d):
    def __init__(self, mean, std, sign=-1):
        super().__init__(3, 3, kernel_size=1)
        std = torch.Tensor(std)
        self.weight.data = torch.eye(3).view(3, 3, 1, 1)
        self.weight.data.div_(std.view(3, 1, 1, 1))
        self.bias.data = sign * torch.Tensor(mean)
        self.bias.data.div_(std)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.sub_mean = MeanShift((0.4, 0.5, 0.6), (1.0, 2.0, 3.0))
        self.add_mean = MeanShift((0.4, 0.5, 0.6), (1.0, 2.0, 3.0), 1)
        self.head, self.tail = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 3, 3)

    def forward(self, x):
        return self.add_mean(self.tail(self.head(self.sub_mean(x)).relu()))


def make():
    return Net()
"""


def test_first_values_of_a_layer_of_another_size_are_told_and_not_written(folder: Path) -> None:
    bundle, _ = halved(folder, SHIFTED, 3, 8, 8)
    assert "div_" not in bundle.file.read_text()
    assert "def __init__(self, channels, " in bundle.file.read_text()  # no name of ours begins with an underscore
    assert [t for t in bundle.summary["lost"] if t.startswith("MeanShift")]


TABLE = """from torch import nn

settings = [
    # channels, layers
    [16, 2],
    [32, 1],
]


class Net(nn.Module):
    def __init__(self, table=settings):
        super().__init__()
        layers, inputs = [], 8
        for width, depth in table:
            for _ in range(depth):
                layers += [nn.Linear(inputs, width), nn.ReLU()]
                inputs = width
        self.body, self.last = nn.Sequential(*layers), nn.Linear(inputs, 3)

    def forward(self, x):
        return self.last(self.body(x))
"""


@pytest.mark.parametrize("reader", ["", "\n\ndef depth():\n    return len(settings)\n"], ids=["default", "more"])
def test_numbers_in_a_table_that_is_a_default_change_where_nothing_else_reads_it(folder: Path, reader: str) -> None:
    bundle, _ = halved(folder, TABLE.replace("Net(", "make(") + reader, 8)
    table = {"    [8, 2],", "    [16, 1],"}
    assert (table <= changes(bundle, TABLE)) is not bool(reader)
    assert not reader or "table=[[8, 2], [16, 1]]" in bundle.file.read_text()
