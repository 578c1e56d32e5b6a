"""Networks of a public collection: spread over many files, with helpers, switches and registries in all of them.

Each test writes a small package of its own, whose files show one habit, and runs what is written from it.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from types import ModuleType

import pytest
import torch
from source_helpers import assert_writes, load
from torch import nn

from secateur.pruners.errors import SourceError
from secateur.pruners.source import Entry, write_source

_NUMBER = count(1)
IMAGE = (2, 3, 8, 8)
HEAD = "import torch\nimport torch.nn.functional as F\nfrom torch import nn\n"


def package(folder: Path, files: Mapping[str, str]) -> ModuleType:
    """The module ``net`` of a package made of these files."""
    name = f"zoo{next(_NUMBER)}"
    for file, text in {"__init__": "", **files}.items():
        path = folder / name / f"{file}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        (path.parent / "__init__.py").touch()
    importlib.invalidate_caches()
    return importlib.import_module(f"{name}.net")


def written(folder: Path, files: Mapping[str, str], *inputs: torch.Tensor, name: str = "Net") -> str:
    """What is written from ``net.Net()``, after it was run and compared."""
    torch.manual_seed(0)
    module = package(folder, files)
    make = getattr(module, name)
    text = assert_writes(make().eval(), Entry(make, {}, name), folder, *(inputs or (torch.randn(IMAGE),)))
    assert module.__name__.partition(".")[0] not in text
    return text


CONV = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
"""


def test_a_module_of_the_package_that_is_handed_around_is_refused(folder: Path) -> None:
    net = f"{HEAD}from . import tools\n{CONV}\n    def forward(self, x):\n        return vars(tools)['half'](x)\n"
    with pytest.raises(SourceError, match=r"net\.py:4: import the names of tools that are used"):
        written(folder, {"net": net, "tools": "def half(x):\n    return x / 2\n"})


def test_a_name_that_nothing_defines_is_refused(folder: Path) -> None:
    module = package(
        folder, {"net": f"{HEAD}{CONV}\n    def forward(self, x):\n        return missing(self.conv(x))\n"}
    )
    with pytest.raises(SourceError, match="the name missing in Net is not defined at the top of its file"):
        write_source(module.Net(), Entry(module.Net, {}, "Net"))


def test_methods_that_nothing_reaches_stay_with_what_they_need(folder: Path) -> None:
    tools = "import os\n\ndef download(path):\n    return os.listdir(path)\n"
    net = f"""{HEAD}
from .tools import download
{CONV}
    def forward(self, x):
        return self._features(x)

    def _features(self, x):
        return self.conv(x)

    def head(self):
        return self.conv

    def load_pretrained(self, path):
        return download(path)

    def reset(self):
        return self.load_pretrained("there")

    def save_jax(self):
        return jax.save(self.conv)

    def set_checkpointing(self, on=True):
        self.checkpointing = on
"""
    text = written(folder, {"net": net, "tools": tools})
    for stays in ("import os", "def download", "def _features", "def head", "def load_pretrained", "def reset"):
        assert stays in text
    assert "self.checkpointing = on" in text
    assert "jax" not in text, "a name that the author's file doesn't have, either"


def test_parents_keep_only_what_their_children_reach(folder: Path) -> None:
    net = f"""{HEAD}
class Parent(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 1)

    def act(self, x):
        return F.relu(x)

    def scaled(self, x):
        return x * 2

    def forward(self, x):
        raise NotImplementedError


class Net(Parent):
    def __init__(self, width=4):
        super().__init__(width)

    def scaled(self, x):
        return super().scaled(x) + 1

    def forward(self, x):
        return self.scaled(self.act(self.conv(x)))
"""
    text = written(folder, {"net": net})
    assert text.count("def scaled") == 2
    assert "NotImplementedError" not in text


def test_branches_that_can_not_run_bring_nothing_along(folder: Path) -> None:
    tools = f"""{HEAD}
import os
try:
    from no_such_package import fused
    has_fused = True
except ImportError:
    has_fused = False

if "NO_SUCH_VARIABLE" in os.environ:
    SCALE = int(os.environ["NO_SUCH_VARIABLE"])
else:
    SCALE = 2  # as in the paper


def checkpoint_all(blocks, x):
    return blocks(x)


def scaled(x):
    if has_fused:
        return fused(x)
    # the plain way
    return x * SCALE
"""
    net = f"""{HEAD}
from .tools import checkpoint_all, scaled


class Net(nn.Module):
    def __init__(self, checkpointing=False, pool="avg"):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.checkpointing = checkpointing
        self.pool = pool

    def forward(self, x):
        if self.checkpointing and not torch.jit.is_scripting():
            x = checkpoint_all(self.conv, x)
        else:
            # one after the other
            x = self.conv(x)
        if self.pool == "max":
            x = x.amax((2, 3))
        elif self.pool == "avg":
            x = x.mean((2, 3))
        return scaled(x)
"""
    text = written(folder, {"net": net, "tools": tools})
    for gone in ("checkpoint(", "import checkpoint", "fused", "environ", "import os", "is_scripting"):
        assert gone not in text
    for there in ("SCALE = 2  # as in the paper", "# the plain way", "# one after the other", 'self.pool == "max"'):
        assert there in text


def test_a_switch_that_forward_turns_is_no_constant(folder: Path) -> None:
    net = f"""{HEAD}
from .tools import slow


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.warm = False

    def forward(self, x):
        if self.warm:
            x = slow(x)
        self.warm = True
        return self.conv(x)
"""
    text = written(folder, {"net": net, "tools": "def slow(x):\n    return x + 1\n"})
    assert "def slow" in text


@pytest.mark.parametrize(
    ("twice", "there"),
    [
        ("y = torch.stack([x] * parts).sum(0) if cut else x", True),
        ("if self.window is not None:\n            parts = parts + 1\n        y = x", False),
    ],
    ids=["code that runs reads it", "only the same switch reads it"],
)
def test_a_branch_that_alone_gives_a_name_stays_where_the_name_is_read(twice: str, there: bool, folder: Path) -> None:
    net = f"""{HEAD}
from .tools import windows


class Net(nn.Module):
    def __init__(self, window=None):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.window = window

    def forward(self, x):
        cut = False
        if self.window is not None and x.shape[-1] > self.window:
            x = windows(x, self.window)
            parts = len(x)
            cut = True
        {twice}
        return self.conv(y)
"""
    text = written(folder, {"net": net, "tools": "def windows(x, size):\n    return x[..., :size]\n"})
    assert ("def windows" in text) is there


def test_decorators_that_only_take_note_go(folder: Path) -> None:
    registry = """
_leaves = set()

def register_leaf(module):
    _leaves.add(module)
    return module

def register_as(name):
    def register(cls):
        _leaves.add(name)
        return cls
    return register

def doubled(function):
    def inner(*args):
        return function(*args) * 2
    return inner
"""
    net = f"""{HEAD}
from .registry import doubled, register_as, register_leaf

@register_as("net")
@register_leaf
{CONV.strip()}

    @torch.jit.ignore
    def act(self, x):
        return F.relu(x)

    @doubled
    def forward(self, x):
        return self.act(self.conv(x))
"""
    text = written(folder, {"net": net, "registry": registry})
    assert "register" not in text
    assert "_leaves" not in text
    assert "@torch.jit.ignore" in text
    assert "@doubled" in text


def test_two_files_may_use_one_name_for_different_things(folder: Path) -> None:
    mixer = f"""{HEAD}
def _scale(x):
    return x * 3

class Block(nn.Module):
    def __init__(self, width):
        super(Block, self).__init__()
        self.fc = nn.Conv2d(width, width, 1)

    def forward(self, x):
        return _scale(self.fc(x))
"""
    net = f"""{HEAD}
from .layers.mixer import Block as Mixer, _scale as _triple
from .layers import mixer

def _scale(x):
    return x * 2

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 1)

    def forward(self, x):
        return _triple(_scale(mixer._scale(self.conv(x))))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = Block(3)
        self.second = Mixer(3)

    def forward(self, x):
        return self.second(self.first(x))
"""
    text = written(folder, {"net": net, "layers/mixer": mixer})
    assert "class MixerBlock(nn.Module)" in text
    assert "self.second = MixerBlock(3)" in text
    assert "_mixer_scale(_scale(_mixer_scale(self.conv(x))))" in text
    assert "_triple" not in text


def test_two_files_may_import_different_things_under_one_name(folder: Path) -> None:
    tools = "from operator import mul as join\n\ndef twice(x):\n    return join(x, 2)\n"
    net = f"""{HEAD}
from .tools import *
from torch import cat as join
{CONV}
    def forward(self, x):
        return twice(join([self.conv(x), self.conv(x)], 1))
"""
    text = written(folder, {"net": net, "tools": tools})
    assert "from operator import mul as operator_mul" in text
    assert "operator_mul(x, 2)" in text


def test_an_import_of_everything_may_replace_a_name(folder: Path) -> None:
    tools = "def join(parts, dim):\n    return parts[0]\n"
    net = f"""{HEAD}
from torch import cat as join
from .tools import *
{CONV}
    def forward(self, x):
        return join([self.conv(x), self.conv(x)], 1)
"""
    assert "return parts[0]" in written(folder, {"net": net, "tools": tools})


def test_strings_that_annotations_list_are_no_names(folder: Path) -> None:
    net = f"""{HEAD}
from typing import Literal
{CONV}
    def forward(self, x: "torch.Tensor", mode: Literal["jax", ""] = "") -> "torch.Tensor":
        return self.conv(x)
"""
    assert "jax" in written(folder, {"net": net})


def test_an_unsaved_buffer_that_the_constructor_gives_other_values_is_refused(folder: Path) -> None:
    net = f"""{HEAD}
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.register_buffer("table", torch.empty(8, 9), persistent=False)
        self.table.copy_(torch.rand(8, 9))

    def forward(self, x):
        return self.conv(x) + self.table[0, 0]
"""
    with pytest.raises(SourceError, match=r"net\.py:\d+: the buffer self.table is not in the state_dict"):
        written(folder, {"net": net})


def test_what_computes_an_unsaved_buffer_stays(folder: Path) -> None:
    net = f"""{HEAD}
import itertools


def offsets(points):
    return [[abs(a - c) + abs(b - d) for c, d in points] for a, b in points]


class Biased(nn.Module):
    def __init__(self, dim, size, heads=2, device=None):
        super().__init__()
        dd = {{"device": device}}
        self.proj = nn.Conv2d(dim, dim, 1, **dd)
        points = list(itertools.product(range(size[0]), range(size[1])))
        unique = set()
        index = []
        for row in offsets(points):
            for value in row:
                unique.add(value)
                index.append(value)  # in reading order
        n = len(points)
        self.bias = nn.Parameter(torch.zeros(heads, len(unique), **dd))
        self.register_buffer("index", torch.tensor(index, device=device).view(n, n), persistent=False)
        self.register_buffer("mask", torch.empty(n, n, **dd), persistent=False)
        self.reset_buffers()

    def reset_buffers(self):
        self.mask.copy_(torch.ones_like(self.mask).tril())

    def forward(self, x):
        return self.proj(x) + (self.bias[:, self.index] * self.mask).sum()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = Biased(3, (3, 4))
        self.two = Biased(3, (4, 4))

    def forward(self, x):
        return self.two(self.one(x))
"""
    text = written(folder, {"net": net})
    assert "index.append(value)  # in reading order" in text
    assert "torch.tensor(index, device=device).view(n, n)" in text
    assert "self.reset_buffers()" in text


def test_what_forward_stores_is_no_part_of_the_constructor(folder: Path) -> None:
    net = f"""{HEAD}
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.cache = {{}}
        self.register_buffer("grid", torch.zeros(1, 1), persistent=False)

    def forward(self, x):
        if x.shape[-1] not in self.cache:
            self.cache[x.shape[-1]] = torch.arange(x.shape[-1])
        if self.grid.shape != x.shape[2:]:
            self.grid = torch.arange(x[0, 0].numel()).view(x.shape[2:])
        return self.conv(x) + self.cache[x.shape[-1]] + self.grid
"""
    module = package(folder, {"net": net})
    model, x = module.Net().eval(), torch.randn(2, 3, 9, 9)
    model(x)
    text = assert_writes(model, Entry(module.Net, {}, "Net"), folder, x)
    assert "self.cache = {}" in text
    assert "torch.zeros(1, 1)" in text


def test_a_method_may_be_chosen_in_the_constructor(folder: Path) -> None:
    net = f"""{HEAD}
class Net(nn.Module):
    def __init__(self, way="double"):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        if way == "double":
            self.forward = self.forward_double
        else:
            self.forward = self.forward_single

    def forward_single(self, x):
        return self.conv(x)

    def forward_double(self, x):
        return self.conv(x) * 2
"""
    assert "self.forward = self.forward_double" in written(folder, {"net": net})


def test_what_the_constructor_of_a_parent_makes_comes_first(folder: Path) -> None:
    net = f"""{HEAD}
class Parent(nn.Module):
    def __init__(self, width, pool="avg"):
        super().__init__()
        self.pool = pool
        self.first = nn.Parameter(torch.zeros(width, 1, 1))
        self.conv = nn.Conv2d(3, width, 1)

    def start(self):
        if self.pool == "avg":
            nn.init.ones_(self.first)

    def forward(self, x):
        return self.conv(x) + self.first


class Net(Parent):
    def __init__(self, width=4):
        super().__init__(width)
        self.second = nn.Parameter(torch.zeros(width, 1, 1))
        self.start()

    def forward(self, x):
        return super().forward(x) + self.second
"""
    text = written(folder, {"net": net})
    assert text.index("self.first = ") < text.index("self.second = ") < text.index("self.start()")


def test_two_layers_with_weights_are_never_one_argument(folder: Path) -> None:
    net = f"""{HEAD}
class Conv(nn.Module):
    def __init__(self, i, o, norm=True):
        super().__init__()
        self.conv = nn.Conv2d(i, o, 1)
        self.norm = nn.BatchNorm2d(o) if norm else nn.Identity()

    def forward(self, x):
        return self.norm(self.conv(x))


class Pair(nn.Module):
    def __init__(self, i, norm=True):
        super().__init__()
        self.one = Conv(i, 2 * i, norm)
        self.two = Conv(2 * i, 2 * i, norm)

    def forward(self, x):
        return self.two(self.one(x))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = Pair(3)
        self.b = Pair(6, norm=False)

    def forward(self, x):
        return self.b(self.a(x))
"""
    written(folder, {"net": net})


def test_initialisation_that_the_new_widths_do_not_allow_goes(folder: Path) -> None:
    net = f"""{HEAD}
class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.width = width
        self.conv = nn.Conv2d(3, width, 1)
        self.mix = nn.Conv2d(width, width, 1)
        self.start()

    def start(self):
        self.mix.weight.data.copy_(torch.eye(self.width)[:, :, None, None])

    def forward(self, x):
        return self.mix(self.conv(x))
"""
    module = package(folder, {"net": net})
    model = module.Net().eval()
    model.conv, model.mix = nn.Conv2d(3, 2, 1), nn.Conv2d(2, 4, 1)
    text = write_source(model.eval(), Entry(module.Net, {}, "Net"))
    assert "start" not in text
    assert load(text, folder).Net()(torch.randn(IMAGE)).shape == (2, 4, 8, 8)


def test_pooling_whose_forward_asks_for_the_axes_keeps_them(folder: Path) -> None:
    net = f"""{HEAD}
class Pool(nn.MaxPool2d):
    def __init__(self, size):
        super().__init__((size, size), (2, 2))

    def forward(self, x):
        pad = self.kernel_size[0] - self.stride[1]
        return F.max_pool2d(F.pad(x, (0, pad, 0, pad)), self.kernel_size, self.stride)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.pool = Pool(3)

    def forward(self, x):
        return self.pool(self.conv(x))
"""
    written(folder, {"net": net})


def test_a_local_name_of_a_layer_is_no_argument(folder: Path) -> None:
    net = f"""{HEAD}
class Block(nn.Module):
    def __init__(self, i, o, kind="same"):
        super().__init__()
        self.first = self.second = None
        if kind != "same":
            made = nn.Conv2d(i, o, 1)
            if kind == "down":
                self.second = made
            else:
                self.first = made

    def forward(self, x):
        x = x if self.first is None else self.first(x)
        return x if self.second is None else self.second(x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(Block(3, 4, "wide"), Block(4, 5, "down"), Block(5, 6, "down"), Block(6, 6))

    def forward(self, x):
        return self.blocks(x)
"""
    written(folder, {"net": net})


def test_a_width_that_others_are_computed_from_keeps_its_name(folder: Path) -> None:
    net = f"""{HEAD}
class Block(nn.Module):
    def __init__(self, dim, ratio=8 / 3):
        super().__init__()
        hidden = int(ratio * dim)
        self.fc1 = nn.Conv2d(dim, hidden * 2, 1)
        self.sizes = (hidden, hidden)
        self.fc2 = nn.Conv2d(hidden, dim, 1)

    def forward(self, x):
        gate, x = self.fc1(x).split(self.sizes, 1)
        return self.fc2(gate * x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = Block(3)
        self.b = Block(3, 4)

    def forward(self, x):
        return self.b(self.a(x))
"""
    assert "hidden * 2" in written(folder, {"net": net})


def test_a_check_of_an_argument_that_is_another_now_goes(folder: Path) -> None:
    net = f"""{HEAD}
class Stem(nn.Module):
    def __init__(self, i, o, size=3):
        super().__init__()
        size = (size, size)
        assert max(size) > 1, "too small"
        self.conv = nn.Conv2d(i, o, size)

    def forward(self, x):
        return self.conv(x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = Stem(3, 4)
        self.b = Stem(4, 5, size=2)

    def forward(self, x):
        return self.b(self.a(x))
"""
    written(folder, {"net": net})


def test_a_buffer_that_only_some_blocks_fill_later(folder: Path) -> None:
    net = f"""{HEAD}
class Block(nn.Module):
    def __init__(self, dim, size=9, shift=0):
        super().__init__()
        self.size = size
        self.shift = shift
        self.conv = nn.Conv2d(dim, dim, 1)
        self.register_buffer("mask", None, persistent=False)
        self.register_buffer("rows", self.numbers(), persistent=False)
        self.reset_buffers()

    def numbers(self):
        return torch.arange(self.size * 9)

    def reset_buffers(self):
        mask = torch.eye(self.size).roll(self.shift, 0) if self.shift else None
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x):
        x = self.conv(x) + self.rows[1]
        return x if self.mask is None else x * self.mask[0, 0]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(Block(3), Block(3, shift=1), Block(3, 10, 2))

    def forward(self, x):
        return self.blocks(x)
"""
    text = written(folder, {"net": net})
    assert "self.numbers()" in text
    assert "self.reset_buffers()" in text


TAPPED = """
from collections import OrderedDict


class Taps(nn.ModuleDict):
    def __init__(self, model, taps):
        layers = OrderedDict()
        for name, module in model.named_children():
            layers[name] = module
            if name in taps:
                break
        super().__init__(layers)
        self.taps = taps

    def forward(self, x):
        out = {}
        for name, module in self.items():
            x = module(x)
            if name in self.taps:
                out[self.taps[name]] = x
        return out


class Body(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.layer = nn.Conv2d(4, 5, 3)
        self.unused = nn.Linear(5, 2)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = Taps(Body(), {"layer": "out"})
        self.head = nn.Conv2d(5, 2, 1)

    def forward(self, x):
        return self.head(self.backbone(x)["out"])
"""


def test_a_dictionary_that_takes_layers_of_another_network_is_given_them(folder: Path) -> None:
    text = written(folder, {"net": HEAD + TAPPED})
    assert "def __init__(self, layers):\n        super().__init__()\n" in text
    assert '"stem": nn.Conv2d(3, 4, ' in text
    assert "class Body" not in text


def test_names_of_another_package_of_the_author_are_taken_over_and_those_of_a_library_imported(folder: Path) -> None:
    other = folder / "settings7"
    other.mkdir()
    (other / "__init__.py").write_text("")
    slopes = "import numpy as np\n\nSLOPE = np.float32(0.25)\n\n\ndef gain(x):\n    return x * SLOPE\n"
    (other / "slopes.py").write_text(slopes)
    (folder / "scales7.py").write_text("SCALE = 2.0\n")
    net = (
        f"{HEAD}import numpy as np\nimport scales7\nimport settings7.slopes\nfrom settings7.slopes import gain\n{CONV}"
        "\n    def forward(self, x):\n"
        "        return gain(self.conv(x)) * scales7.SCALE * settings7.slopes.SLOPE * np.pi\n"
    )
    text = written(folder, {"net": net})
    assert "settings7" not in text and "scales7" not in text
    assert "import numpy as np" in text and "SLOPE = np.float32(0.25)" in text
