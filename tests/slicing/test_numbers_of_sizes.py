"""Numbers in forward that mix channels with sizes: the file is right at every size and batch, or channels stay.

The oracle sets every weight of a channel that goes to zero and runs the author's own code.
"""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from forms import pruned
from torch import Tensor, nn

from secateur.pruners.base import BasicPruning
from secateur.pruners.costs import Budget
from secateur.pruners.errors import SourceError
from secateur.pruners.scratch import import_file
from secateur.pruners.search import SearchSettings, search

SHAPES = ((2, 3, 8, 8), (3, 3, 8, 8), (1, 3, 12, 12), (2, 3, 6, 10))
HEAD = "import math\nimport torch\nimport torch.nn.functional as F\nfrom torch import nn\n\n\n"
HELPERS = (
    "def scaled(x, n):\n    return x / n\n\n\n"
    "def count(x):\n    return x.numel()\n\n\n"
    "def sizes(x):\n    return x.shape[1], x.shape[2] * x.shape[3]\n\n\n"
)
NET = """class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1 = nn.Conv2d(3, 16, 3, padding=1)
        self.c2 = nn.Conv2d(16, 16, 3, padding=1)
        self.fc = nn.Linear(16, 5)
        self.c = 16

    def forward(self, x):
        x = F.relu(self.c1(x))
        n, c, h, w = x.shape
{lines}
        return self.fc(self.c2(x).mean((2, 3)))
"""


def pruner_of(tmp_path: Path, *lines: str) -> BasicPruning:
    path = tmp_path / "author.py"
    path.write_text(HEAD + HELPERS + NET.format(lines="\n".join(f"        {line}" for line in lines)))
    torch.manual_seed(0)
    model = import_file(path).Net().double().eval()
    return BasicPruning(model, torch.randn(SHAPES[0], dtype=torch.float64))


def without(model: nn.Module, pruner: BasicPruning, kept: dict[str, list[int]]) -> nn.Module:
    """A copy of the original in which every weight of a channel that goes is zero."""
    zeroed = copy.deepcopy(model)
    for width in pruner.graph.widths:
        gone = [g for g in range(width.size) if g not in kept[width.name]]
        for use in width.uses:
            weight = zeroed.get_parameter(use.slot.parameter).data
            weight.index_fill_(use.slot.dim, torch.from_numpy(use.index[gone].ravel()), 0)
    return zeroed


def halved(pruner: BasicPruning) -> tuple[str, list[str]]:
    """Half of every width goes: the file's text, and the widths."""
    found = search(pruner.model, pruner.graph, SearchSettings("uniform", budget=Budget("ratio", 0.5))).kept
    kept = {name: [int(g) for g in groups] for name, groups in found.items()}
    return compared(pruner, kept), [w.name for w in pruner.graph.widths]


def compared(pruner: BasicPruning, kept: dict[str, list[int]]) -> str:
    """The file's text, once it was run against the zeroed original at every shape."""
    small, zeroed = pruner.realize(kept), without(pruner.model, pruner, kept)
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in zeroed.parameters())
    for seed, shape in enumerate(SHAPES):
        x: Tensor = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            assert torch.allclose(small(x), zeroed(x), rtol=1e-9, atol=1e-12), shape
    return pruner._write(pruner.slice(kept), None).text


STAYS = {
    "a count made by a function": ("x = x / count(x)",),
    "a stride": ("x = x / x.stride(0)",),
    "a size of what is no more": ("k = x.numel()", "x = F.max_pool2d(x, 2)", "x = x / k"),
    "an attribute that forward sets": ("self.k = x.numel()", "x = x / self.k"),
    "a factor that differs in every pass of a loop": (
        "for _ in range(2):", "    x = F.max_pool2d(x / (x.shape[1] * x.shape[2]), 2)",
    ),
    "a number of the data": ("x = x / (c * float(x.mean()))",),
    "sizes chosen by a condition": ("k = c * h if h > 2 else c", "x = x / k"),
}  # fmt: skip


@pytest.mark.parametrize("name", STAYS)
def test_channels_stay_where_they_cannot_be_told_from_sizes(name: str, tmp_path: Path) -> None:
    pruner = pruner_of(tmp_path, *STAYS[name])
    _, widths = halved(pruner)
    assert widths == ["c2"]
    assert any(f.site.file.endswith("author.py") and "c1.weight" in str(f.slots[0]) for f in pruner.graph.frozen)


# what stands in the author's forward, and what must stand in the file
TOLD = {
    "a product": (("x = x / (c * h * w)",), "x = x / (16 * h * w)"),
    "a power of a product": (("x = x * (c * h * w) ** -0.5",), "x = x * (16 * h * w) ** -0.5"),
    "a square root": (("x = x / math.sqrt(c * h * w)",), "x = x / math.sqrt(16 * h * w)"),
    "sizes by name": (("x = x / (x.shape[1] * x.shape[2])",), "x = x / (16 * x.shape[2])"),
    "all elements": (("x = 9 * x / x.numel()",), "x = 9 * x / (x.shape[0] * 16 * x.shape[2] * x.shape[3])"),
    "elements of one image": (("x = x / x[0].nelement()",), "x = x / (16 * x.shape[2] * x.shape[3])"),
    "a product of a shape": (("x = x / math.prod(x.shape[1:])",), "x = x / (16 * math.prod(x.shape[2:]))"),
    "elements of a shape": (("x = x / x.size().numel()",), "x = x / (x.shape[0] * 16 * x.shape[2] * x.shape[3])"),
    "a name that is read once": (("k = c * h * w", "x = x / k"), "k = 16 * h * w"),
    "names over several lines": (("s = h * w", "k = c * s", "x = x.view(n, k).view(n, c, h, w) / k"), "/ (16 * s)"),
    "an argument of a function": (("x = scaled(x, c * h * w)",), "x = scaled(x, 16 * h * w)"),
    "sizes that a function gives": (("k, s = sizes(x)", "x = x / (k * s)"), "x = x / (16 * s)"),
    "a whole number": (("x = x / int(c * h * w / 2)",), "x = x / int(16 * h * w / 2)"),
    "the larger of two": (("x = x / max(c, h)",), "x = x / max(16, h)"),
    "the length of an image": (("x = x / len(x[0])",), "x = x / 16"),
    "a tensor of one number": (("x = x / torch.tensor(c * h * w)",), "torch.tensor(16 * h * w)"),
    "a summand": (("x = x + c / (h * w)",), "x = x + 16 / (h * w)"),
    "an exponent": (("x = (x + 1) ** (h / c)",), "** (h / 16)"),
    "a bound": (("x = x.clamp(max=c * h / 999)",), "x.clamp(max=16 * h / 999)"),
    "a weight of a sum": (("x = torch.add(x, x.tanh(), alpha=1 / (c * h))",), "alpha=1 / (16 * h)"),
    "products of images": (
        ("g = x.flatten(2) @ x.flatten(2).transpose(1, 2) / (c * h * w)", "x = x + g.sum((1, 2)).view(n, 1, 1, 1)"),
        "/ (16 * h * w)",
    ),
    "half of a row": (
        ("y = x.flatten(1)[:, : c * h * w // 2]", "x = x + y.sum(1).view(n, 1, 1, 1)"), "* h * w // 2]",
    ),
    "a mean by hand": (("x = x - x.sum() / x.numel()",), "x.sum() / (x.shape[0] * 16 * x.shape[2] * x.shape[3])"),
    "variances by hand": (
        ("m = x.sum((2, 3), keepdim=True) / (h * w)", "x = (x - m) / (x.numel() / (n * c))"), "(x.numel() / (n * c))",
    ),
    "a flat view": (("x = x.view(-1, x.size(1) * x.size(2) * x.size(3)).view(n, c, h, w)",), "x.size(1) * x.size(2)"),
}  # fmt: skip


@pytest.mark.parametrize("name", TOLD)
def test_only_what_counts_channels_becomes_a_number(name: str, tmp_path: Path) -> None:
    lines, expected = TOLD[name]
    text, widths = halved(pruner_of(tmp_path, *lines))
    assert expected in text
    assert widths == ["c1", "c2"]


@pytest.mark.parametrize(
    ("shape", "becomes"),
    [("y.shape", "(y.shape[0], -1, *y.shape[2:])"), ("list(y.size())", "list((y.shape[0], -1, *y.shape[2:]))")],
)
def test_the_shape_of_another_tensor_keeps_its_sizes(shape: str, becomes: str, tmp_path: Path) -> None:
    pruner = pruner_of(tmp_path, "y = x", f"x = self.c2(x).reshape({shape})", "return self.fc(x.mean((2, 3)))")
    text = compared(pruner, {"c1": [0, 2, 5], "c2": [1, 2, 3, 7, 11]})
    assert f"reshape({becomes})" in text


BLOCK = """class Block(nn.Module):
    def __init__(self, c, d):
        super().__init__()
        self.a, self.b, self.d = nn.Conv2d(c, d, 1), nn.Conv2d(d, c, 1), d

    def forward(self, x):
        y = self.a(x).relu()
        n, c, h, w = y.shape
        k = c // 4
        y = torch.cat([y[:, :k] / (c * h), y[:, k:]], 1)
        return x + self.b(y.view(-1, self.d * h * w).view(n, self.d, h, w))


"""


def test_modules_of_one_class_hold_their_own_numbers(tmp_path: Path) -> None:
    init = "        self.c = 16\n        self.b1, self.b2 = Block(16, 8), Block(16, 24)\n"
    path = tmp_path / "author.py"
    net = NET.format(lines="        x = self.b2(self.b1(x))")
    path.write_text(HEAD + BLOCK + net.replace("        self.c = 16\n", init))
    torch.manual_seed(0)
    model = import_file(path).Net().double().eval()
    pruner = BasicPruning(model, torch.randn(SHAPES[0], dtype=torch.float64))
    kept = {w.name: list(range(w.size)) for w in pruner.graph.widths}
    # in the first block a quarter of what is kept are those of the first quarter: its number is right as it is
    compared(pruner, {**kept, "b1.a": [0, 2, 3, 6], "b2.a": [0, 1, 2, 3, 9, 10, 22, 23]})


HALVES = """
class Halves(nn.Module):
{init}
    def forward(self, x):
        c = int(x.size(2) * 0.5)
        return x[:, :, :c], x[:, :, c:]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.other, self.kept = nn.Linear(5, 16), nn.Linear(5, 16), nn.Linear(5, 12)
        self.halves = nn.ModuleList([Halves(), Halves()])
        self.left, self.right = nn.Linear(16, 6), nn.Linear(16, 6)
        self.whole = nn.Linear(6, 4)
        self.head = nn.Linear(6 + 6 + 4 + 6, 3)

    def forward(self, x):
        a, b = self.halves[0](torch.cat([self.first(x), self.other(x)], 2).relu())
        c, d = self.halves[1](self.kept(x).relu())
        return self.head(torch.cat([self.left(a), self.right(b), self.whole(c), d], 2))
"""


def test_a_number_of_its_own_needs_a_constructor(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"author.py:\d+: this number differs .* Halves has no __init__"):
        pruned(tmp_path, HALVES.format(init=""), skip=["other", "kept"])


def test_a_module_whose_channels_all_stay_keeps_its_own_number(tmp_path: Path) -> None:
    init = "    def __init__(self):\n        super().__init__()\n"
    _, _, text = pruned(tmp_path, HALVES.format(init=init), skip=["other", "kept"])
    assert "Halves(8)" in text and "Halves(6)" in text
    assert "return x[:, :, :self.width], x[:, :, self.width:]" in text  # one number is one attribute


SHUFFLED = """import torch
from torch import nn


class Halves(nn.Module):
    def __init__(self, ratio=0.5):
        super().__init__()
        self.ratio = ratio

    def forward(self, x):
        c = int(x.size(1) * self.ratio)
        return x[:, :c], x[:, c:]


def shuffled(x):
    n, c, h, w = x.size()
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.split = Halves()
        self.conv = nn.Conv2d(c // 2, c // 2, 1)

    def forward(self, x):
        a, b = self.split(x)
        return shuffled(torch.cat([a, self.conv(b).relu()], 1))


class Down(nn.Module):
    def __init__(self, c, d):
        super().__init__()
        self.left, self.right = nn.Conv2d(c, d // 2, 1), nn.Conv2d(c, d // 2, 1)

    def forward(self, x):
        return shuffled(torch.cat([self.left(x).relu(), self.right(x)], 1))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(Down(3, 12), Block(12), Down(12, 24), *[Block(24) for _ in range(5)], Down(24, 48))
        self.last = nn.Conv2d(48, 12, 1)
        self.fc = nn.Linear(12, 10)

    def forward(self, x):
        return self.fc(self.last(self.body(x)).relu().mean((2, 3)))
"""


def test_splits_after_so_many_shuffles_that_all_channels_stay(tmp_path: Path) -> None:
    pruner, widths, _ = pruned(tmp_path, SHUFFLED, example=torch.randn(2, 3, 4, 4))
    assert widths["last"] == 12
    assert {s.layer for f in pruner.graph.frozen for s in f.slots} >= {"body.7.conv"}


PADDED = """
class Attention(nn.Module):
    def __init__(self, c, heads=4):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(c, 3 * c), nn.Linear(c, c)

    def forward(self, x):
        n, t, c = x.shape
        x = F.pad(x, (0, 0, 0, -t % 4)).view(n, 4, -1, c)
        q, k, v = self.qkv(x).reshape(n, 4, -1, 3, self.heads, c // self.heads).permute(3, 0, 1, 4, 2, 5).unbind(0)
        x = ((q @ k.mT).softmax(-1) @ v).transpose(2, 3).reshape(n, -1, c)
        return self.proj(x[:, :t])


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.inner, self.head = nn.Linear(5, 32), Attention(32), nn.Linear(32, 3)

    def forward(self, x):
        return self.head(self.inner(self.up(x))).mean(1)
"""


def test_a_size_of_a_tensor_whose_name_stands_for_another_one_now_is_no_other_size(tmp_path: Path) -> None:
    _, _, text = pruned(tmp_path, PADDED, example=torch.randn(2, 14, 5))
    assert "reshape(n, 4, -1, 3, self.heads, c // self.heads)" in text
    assert "Attention(16, heads=2)" in text  # heads are the default of a class that stays to the letter


IN_ONE_FUNCTION = """
def attend(x, qkv, heads):
    n, t, c = x.shape
    q, k, v = qkv(x).reshape(n, t, 3, heads, c // heads).permute(2, 0, 3, 1, 4).unbind(0)
    q = q * (c // heads) ** -0.5
    return ((q @ k.mT).softmax(-1) @ v).transpose(1, 2).reshape(n, t, c)


class Attention(nn.Module):
    def __init__(self, c, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(c, 3 * c), nn.Linear(c, c)

    def forward(self, x):
        return self.proj(attend(x, self.qkv, self.heads))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.first = nn.Linear(5, 12), Attention(12, 3)
        self.mid, self.second = nn.Linear(12, 24), Attention(24, 6)
        self.head = nn.Linear(24, 3)

    def forward(self, x):
        return self.head(self.second(self.mid(self.first(self.up(x))))).mean(1)
"""


def test_a_number_that_is_left_to_torch_in_one_module_is_so_in_all(tmp_path: Path) -> None:
    _, _, text = pruned(tmp_path, IN_ONE_FUNCTION, example=torch.randn(2, 14, 5))
    assert "reshape(n, t, 3, heads, -1)" in text
