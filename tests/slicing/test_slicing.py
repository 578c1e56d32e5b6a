"""Live slicing: equal to the zeroed original, and stale numbers traced to where they come from."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from zeroing import zeroed_copy

from secateur.pruners.api import prune
from secateur.pruners.errors import NotPrunableError
from secateur.pruners.graph import ChannelGraph
from secateur.pruners.slicing import SlicedModel, slice_model
from secateur.pruners.trace.trace import trace
from secateur.pruners.verify import oracle
from secateur.pruners.verify.masking import masking

X = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def every_other(graph: ChannelGraph) -> dict[str, list[int]]:
    """Keep the first half of every block."""
    kept = {}
    for width in graph.widths:
        per = width.size // width.n_blocks
        rank = [sum(width.block_of[:i] == width.block_of[i]) for i in range(width.size)]
        kept[width.name] = [i for i in range(width.size) if rank[i] < max(1, per // 2)]
    return kept


def cut(model: nn.Module, x: Tensor = X) -> tuple[SlicedModel, nn.Module]:
    """The sliced network and the zeroed original, both with random weights."""
    model = model.double().eval()
    oracle.randomise(model, 1)
    graph = trace(model, x)
    kept = every_other(graph)
    assert graph.widths
    return slice_model(model, graph, kept, x), zeroed_copy(model, graph, kept)


def imported(tmp_path: Path, source: str) -> ModuleType:
    path = tmp_path / "author.py"
    path.write_text("import torch\nimport torch.nn.functional as F\nfrom torch import nn\n" + source)
    spec = importlib.util.spec_from_file_location(f"author_{abs(hash(source))}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class Padded(nn.Module):
    """A zero-pad shortcut whose amounts live in an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(8, 2, 1)
        self.pad = (2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.c(F.pad(x, (0, 0, 0, 0, *self.pad)) + self.b(x))


NETWORKS = {
    "a plain sequence": nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1)),
    "a grouped convolution": nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 12, 3, groups=2), nn.Conv2d(12, 4, 1)),
    "a depth-wise convolution with a multiplier": nn.Sequential(
        nn.Conv2d(3, 6, 1), nn.Conv2d(6, 12, 3, groups=6), nn.Conv2d(12, 4, 1)
    ),
    "a transposed convolution": nn.Sequential(nn.Conv2d(3, 6, 1), nn.ConvTranspose2d(6, 8, 2), nn.Conv2d(8, 4, 1)),
    "a transposed grouped convolution": nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.ConvTranspose2d(8, 12, 2, groups=2), nn.Conv2d(12, 4, 1)
    ),
    "a transposed depth-wise convolution": nn.Sequential(
        nn.Conv2d(3, 6, 1), nn.ConvTranspose2d(6, 6, 2, groups=6), nn.Conv2d(6, 4, 1)
    ),
    "flatten to linear": nn.Sequential(nn.Conv2d(3, 6, 3), nn.Flatten(), nn.Linear(216, 9), nn.Linear(9, 2)),
    "one-dimensional layers": nn.Sequential(
        nn.Flatten(2), nn.Conv1d(3, 6, 3), nn.BatchNorm1d(6), nn.Conv1d(6, 4, 1), nn.Flatten(), nn.Linear(248, 2)
    ),
    "a norm that stores nothing": nn.Sequential(
        nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6, affine=False), nn.InstanceNorm2d(6), nn.Conv2d(6, 2, 1)
    ),
    "a group norm of every channel alone": nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.GroupNorm(8, 8), nn.Conv2d(8, 6, 1), nn.GroupNorm(6, 6, affine=False), nn.Conv2d(6, 2, 1)
    ),
    "a weight in length and direction": nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 8, 3)),
        nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 6, 1)),
        nn.ReLU(),
        nn.Conv2d(6, 2, 1),
    ),
    "a pad attribute": Padded(),
    "a convolution of size 1 along the channels of another axis": nn.Sequential(
        nn.Flatten(2), nn.Linear(64, 9), nn.Conv1d(3, 4, 1), nn.ReLU(), nn.Linear(9, 5), nn.Conv1d(4, 2, 3)
    ),
    "pooling in another memory format": nn.Sequential(
        nn.Conv2d(3, 6, 1).to(memory_format=torch.channels_last), nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 2, 1)
    ),
}


class Learnt(nn.Module):
    """Tokens that are parameters, read by a layer before anything else is."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.query = nn.Parameter(torch.zeros(4, 6)), nn.Linear(6, 8)
        self.embed, self.head = nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        keys = self.embed(x.flatten(1, 2))
        return self.head((self.query(self.tokens) @ keys.transpose(1, 2)).softmax(-1) @ keys)


class Standardised(nn.Conv2d):
    """A convolution that brings its weight to mean 0 and variance 1 per output."""

    def forward(self, x: Tensor) -> Tensor:
        flat = self.weight.reshape(1, self.out_channels, -1)
        weight = F.batch_norm(flat, None, None, training=True, eps=1e-6).reshape_as(self.weight)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class ByHand(nn.Conv2d):
    """The same, with the mean and the variance taken by hand and a gain per output."""

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(self.weight, dim=[1, 2, 3], keepdim=True)
        weight = (self.weight - mean) * torch.rsqrt(variance + 1e-6) * self.bias.view(-1, 1, 1, 1)
        return F.conv2d(x, weight, self.bias)


class Between(nn.Sequential):
    """Two convolutions with a function between them."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 6, 1))
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self[1](self.function(self[0](x)))


def _response_norm(x: Tensor) -> Tensor:
    """Each channel's length beside the mean length."""
    length = x.norm(p=2, dim=(2, 3), keepdim=True)
    return x * length / (length.mean(1, keepdim=True) + 1e-6)


STATISTICS = {
    "tokens that are parameters": Learnt(),
    "a layer norm": nn.Sequential(nn.Flatten(2), nn.Linear(64, 9), nn.LayerNorm(9), nn.ReLU(), nn.Linear(9, 2)),
    "a group norm": nn.Sequential(nn.Conv2d(3, 8, 1), nn.GroupNorm(2, 8), nn.Conv2d(8, 2, 1)),
    "a mean and a maximum over the channels": Between(
        lambda x: x * torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1).sum(1, keepdim=True).sigmoid()
    ),
    "the largest value, by a call that tells its place too": Between(lambda x: x * x.max(1, keepdim=True)[0].sigmoid()),
    "a variance over the channels": Between(lambda x: (x - x.mean(1, True)) / (x.var(1, keepdim=True) + 0.1).sqrt()),
    "a global response norm": Between(_response_norm),
    "a weight standardised by a batch norm": nn.Sequential(Standardised(3, 8, 3), Standardised(8, 6, 3), nn.ReLU(),
                                                           nn.Conv2d(6, 2, 1)),
    "a weight standardised by hand": nn.Sequential(ByHand(3, 8, 3), ByHand(8, 6, 3), nn.ReLU(), nn.Conv2d(6, 2, 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", STATISTICS)
def test_statistics_run_over_what_is_kept(name: str) -> None:
    model = STATISTICS[name].double().eval()
    oracle.randomise(model, 1)
    graph = trace(model, X)
    kept = every_other(graph)
    assert oracle.exact(graph, kept)
    sliced, zeroed = slice_model(model, graph, kept, X), zeroed_copy(model, graph, kept)
    with torch.no_grad():
        plain = zeroed(X)
        with masking(graph, kept):
            expected = zeroed(X)
        assert torch.allclose(sliced.model(X), expected, rtol=1e-10, atol=1e-12)
    assert not torch.allclose(plain, expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_slicing_equals_zeroing(name: str) -> None:
    sliced, zeroed = cut(NETWORKS[name])
    assert sliced.runs
    assert sum(p.numel() for p in sliced.model.parameters()) < sum(p.numel() for p in zeroed.parameters())
    with torch.no_grad():
        assert torch.allclose(sliced.model(X), zeroed(X), rtol=1e-10, atol=1e-12)


def test_size_attributes_follow() -> None:
    sliced, _ = cut(NETWORKS["a grouped convolution"])
    grouped = sliced.model[1]
    assert (grouped.in_channels, grouped.out_channels, grouped.groups) == (4, 6, 2)
    norm = cut(NETWORKS["a norm that stores nothing"])[0].model[1]
    assert norm.num_features == 3


def test_an_attribute_that_counts_channels_is_set_anew() -> None:
    model = Padded()
    sliced, _ = cut(model)
    assert sliced.model.pad == (2, 0)  # of the padded channels, the first half stays
    assert model.pad == (2, 2)
    assert sliced.literals == ()


def test_a_literal_in_forward_is_reported_with_its_span(tmp_path: Path) -> None:
    module = imported(
        tmp_path,
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.conv = nn.Conv2d(3, 6, 3, padding=1)\n"
        "        self.fc = nn.Linear(6 * 64, 5)\n"
        "    def forward(self, x):\n"
        "        x = self.conv(x)\n"
        "        return self.fc(x.view(-1, 6 * 8 * 8))\n",
    )
    sliced, _ = cut(module.Net())
    (site,) = sliced.literals
    assert (Path(site.file).name, site.line, site.values) == ("author.py", 11, {"": 192})
    text = Path(site.file).read_text().splitlines()[site.line - 1]
    assert text[site.col : site.end_col] == "6 * 8 * 8"


# on one line and over several: there Python says that a method's call starts at the method's name
CHAINS = {
    "view": (96, "self.pool(x).relu().view(-1, 6 * 16)", "(self.pool(x)\n .relu()\n .view(-1, 6 * 16))"),
    "reshape": (
        96,
        "self.pool(x).permute(0, 2, 3, 1).reshape(-1, 6 * 16)",
        "(self.pool(x)\n .permute(0, 2,\n 3, 1)\n .reshape(\n -1,\n 6 * 16))",
    ),
    "a chain broken after its dots": (384, "x.relu().view(-1, 6 * 64)", "x.relu(\n).\\\n view(-1, 6 * 64)"),
    "arguments over lines": (
        160,
        "F.pad(self.pool(x), (0, 0, 0, 0, 2, 2)).view(-1, 10 * 16)",
        "F.pad(\n self.pool(x),\n (0, 0,\n 0, 0, 2, 2),\n).view(-1, 10 * 16)",
    ),
    "calls in calls": (
        96,
        "torch.relu(torch.reshape(self.pool(x).abs(), (-1, 6 * 16)))",
        "torch.relu(\n torch.reshape(self.pool(x)\n .abs(), (-1, 6 * 16)))",
    ),
    "a product with a call": (
        384,
        "x.view(-1, 6 * 64) * x.neg().view(-1, 384)",
        "x.view(-1, 6 * 64) * (x.neg()\n .view(-1, 384))",
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_call_over_several_lines_is_found(name: str, tmp_path: Path) -> None:
    size, *spellings = CHAINS[name]
    numbers = []
    for place, code in enumerate(spellings):
        torch.manual_seed(0)
        module = imported(
            tmp_path,
            "class Net(nn.Module):\n"
            "    def __init__(self):\n"
            "        super().__init__()\n"
            "        self.conv, self.pool = nn.Conv2d(3, 6, 3, padding=1), nn.MaxPool2d(2)\n"
            f"        self.fc = nn.Linear({size}, 5)\n"
            "    def forward(self, x):\n"
            "        x = self.conv(x)\n"
            f"        x = {code}\n"
            "        return self.fc(x)\n",
        )
        folder = tmp_path / str(place)
        assert prune(module.Net(), X.float(), output=folder, ratio=0.5).summary["verified"]
        text = (folder / "model.py").read_text().split('"""', 2)[2]
        assert "nn.Conv2d(3, 3, " in text
        numbers.append(re.findall(r"[0-9]+", text))
    assert numbers[0] == numbers[1]


def test_python_without_places_is_refused_with_the_cause(tmp_path: Path) -> None:
    (tmp_path / "author.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.conv, self.fc = nn.Conv2d(3, 6, 3), nn.Linear(216, 5)\n"
        "    def forward(self, x):\n"
        "        return self.fc(self.conv(x).view(-1, 216))\n",
    )
    code = (
        "import sys, torch, author\n"
        "from secateur.pruners.api import prune\n"
        f"prune(author.Net(), torch.randn(2, 3, 8, 8), output={str(tmp_path / 'out')!r}, ratio=0.5)\n"
    )
    here = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    ran = subprocess.run(
        [sys.executable, "-B", "-X", "no_debug_ranges", "-c", code],
        env={**os.environ, "PYTHONPATH": here}, capture_output=True, text=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert ran.stderr.splitlines()[-1].startswith("secateur.pruners.errors.UnwritableLayerError: ")
    assert "author.py:2: the model (Net) was compiled without the places of its expressions" in ran.stderr
    assert "-X no_debug_ranges" in ran.stderr


def test_a_size_of_a_pruned_tensor_is_not_that_of_frozen_channels(tmp_path: Path) -> None:
    module = imported(
        tmp_path,
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.embed, self.mix, self.head = nn.Linear(8, 6), nn.Linear(6, 6), nn.Linear(6, 2)\n"
        "    def forward(self, x):\n"
        "        x = self.embed(x)\n"
        "        B, A, N, C = x.shape\n"
        "        y = torch.fft.fft(self.mix(x)).real.reshape(B, A * N, C)\n"
        "        return self.head(y)\n",
    )
    sliced, _ = cut(module.Net())
    (site,) = sliced.literals
    assert (site.line, site.values) == (11, {"": -1})


NUMBERS = {
    "a shape by name": ("torch.reshape(self.a(x), shape=(-1, 6, 8, 8))", 3),
    "a norm's shape": ("F.layer_norm(self.a(x).permute(0, 2, 3, 1), (6,)).permute(0, 3, 1, 2)", 3),
    "a norm's groups": ("F.group_norm(self.a(x), 6)", 3),
    "a number of groups made of a size": ("F.group_norm(self.a(x), self.a.out_channels // 2)", 3),
    "a divisor": ("self.a(x) / self.a.out_channels", 6),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_in_calls_follow(name: str, tmp_path: Path) -> None:
    code, new = NUMBERS[name]
    module = imported(
        tmp_path,
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 2, 1)\n"
        "    def forward(self, x):\n"
        f"        return self.b({code})\n",
    )
    sliced, _ = cut(module.Net())
    assert [s.values for s in sliced.literals] == [{"": new}]


def test_one_number_for_two_widths_is_refused_with_its_place(tmp_path: Path) -> None:
    module = imported(
        tmp_path,
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(3, 6, 3, padding=1)\n"
        "        self.fc1, self.fc2, self.n = nn.Linear(6, 5), nn.Linear(6, 5), 6\n"
        "    def flat(self, x):\n"
        "        return x.mean((2, 3)).view(-1, self.n)\n"
        "    def forward(self, x):\n"
        "        return self.fc1(self.flat(self.a(x))) + self.fc2(self.flat(self.b(x)))\n",
    )
    model = module.Net().double()
    graph = trace(model, X)
    with pytest.raises(NotPrunableError, match=r"author.py:10: one number in the code counts two different widths"):
        slice_model(model, graph, {"a": [0, 1], "b": [0, 1, 2]}, X)


def test_requires_grad_dtype_ties_and_training_flags_survive() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1)).half()
    model[2].weight = model[1].weight
    model[0].weight.requires_grad_(False)
    model[3].eval()
    x = torch.randn(1, 3, 4, 4).half()
    graph = trace(model, x)
    new = slice_model(model, graph, {"0": [0, 3]}, x).model
    assert new[2].weight is new[1].weight
    assert [new[0].weight.requires_grad, new[0].bias.requires_grad] == [False, True]
    assert {p.dtype for p in new.parameters()} == {torch.float16}
    assert [m.training for m in new] == [True, True, True, False]
