"""Code that the example doesn't come by: it fits what is pruned, or what it could read stays whole."""

from __future__ import annotations

import importlib
import os
import random
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from zeroing import zeroed_copy

from secateur import prune, trace
from secateur.pruners.base import BasicPruning
from secateur.pruners.errors import NotPrunableError
from secateur.pruners.slicing.trial import trial


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2, self.fc = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1), nn.Linear(16, 5)

    def end(self, x: Tensor) -> Tensor:
        return self.fc(self.c2(x).mean((2, 3)))


class LargeImages(Net):
    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(16, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.c1(x))
        if x.shape[-1] > 8:
            x = self.wide(x)
        return self.end(x)


class SmallImages(Net):
    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(16, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.c1(x))
        return self.end(self.wide(x) if x.shape[-1] <= 8 else x)


class AskedOfItself(Net):
    """What a name is, is asked with the name itself in a longer question."""

    def shift(self, x: Tensor) -> Tensor | None:
        return None if x.shape[-1] > 8 else x.mean()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.c1(x))
        shift = self.shift(x)
        if shift is not None and shift.ndim == 0:
            shift = shift + 1
        return self.end(x if shift is None else x + shift)


class PartOfLargeImages(Net):
    """The way that isn't taken counts channels."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.c1(x))
        if x.shape[-1] > 8:
            first, second = x[:, :8], x[:, 8:]
            x = torch.cat([second, first], 1) / x.shape[1]
        return self.end(x)


class PoolsUntilSmall(Net):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(16, 16, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.c1(x))
        while x.shape[-1] > 8:
            x = self.down(x)
        return self.end(x)


class Flagged(Net):
    """An optional argument asks for more."""

    def __init__(self) -> None:
        super().__init__()
        self.refine = nn.Conv2d(16, 16, 1)

    def forward(self, x: Tensor, refined: bool = False) -> Tensor:
        x = F.relu(self.c1(x))
        if refined:
            return self.end(self.refine(x))
        return self.end(x)


class Masked(Net):
    """What is read with an argument that isn't there can't be tried."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = F.relu(self.c1(x))
        if mask is not None:
            x = x * mask
        return self.end(x)


class Helper(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(16, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] > 12:
            x = self.inner(x)
        return x


class Nested(Net):
    """A way inside a module that only another way calls."""

    def __init__(self) -> None:
        super().__init__()
        self.helper = Helper()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.c1(x))
        if x.shape[-1] > 8:
            x = self.helper(x)
        return self.end(x)


class EarlyExit(Net):
    """A data-dependent way that returns."""

    def __init__(self) -> None:
        super().__init__()
        self.exit = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.c1(x))
        if x.shape[-1] > 8:
            return self.exit(x.mean((2, 3)))
        return self.end(x)


class TwoInOneLine(Net):
    """Inside a way that is tried both ways of another stand in one line."""

    def forward(self, x: Tensor, deep: bool = False, twice: bool = False) -> Tensor:
        x = self.c1(x)
        if deep:
            x = x.relu() if twice else x.sigmoid()
            x = x * 2
        return self.end(x)


class NamedInTheTest(Net):
    """What the way reads is made in the condition."""

    def forward(self, x: Tensor) -> Tensor:
        if (y := F.relu(self.c1(x))).shape[-1] > 8:
            y = F.pad(y, (0, 1))
        return self.end(y)


SIZES = {
    "a layer for large images": LargeImages, "a layer for small images": SmallImages,
    "channels counted for large images": PartOfLargeImages, "pooling until small": PoolsUntilSmall,
    "a way inside a way": Nested, "an early exit": EarlyExit,
    "a name made in the condition": NamedInTheTest,
}  # fmt: skip


def compare(cls: type[nn.Module], inputs: list[tuple[Any, ...]], training: bool = False, example: Any = None) -> Any:
    """The written file against the original whose removed channels nothing reads."""
    torch.manual_seed(0)
    model = cls()
    pruner = BasicPruning(model, torch.randn(1, 3, 8, 8) if example is None else example)
    kept = trial(pruner.graph)
    whole, part = zeroed_copy(model, pruner.graph, kept), pruner.realize(kept)
    for given in inputs:
        outs = []
        for network in (whole, part):
            torch.manual_seed(1)
            random.seed(1)
            with torch.no_grad():
                outs.append(network.train(training)(*given))
        torch.testing.assert_close(outs[1], outs[0], rtol=1e-4, atol=1e-5)
    return pruner


def test_a_local_name_that_is_made_where_it_is_asked_for_itself_is_no_circle() -> None:
    graph = trace(AskedOfItself(), torch.randn(1, 3, 8, 8))
    assert {w.size for w in graph.widths} == {16} and len(graph.widths) == 2


@pytest.mark.parametrize("cls", SIZES.values(), ids=SIZES)
def test_the_file_computes_the_same_for_sizes_that_the_example_does_not_have(cls: type[nn.Module]) -> None:
    pruner = compare(cls, [(torch.randn(2, 3, n, n),) for n in (8, 12, 16)])
    assert {w.name for w in pruner.graph.widths} >= {"c1"}
    assert pruner.graph.untaken


def test_a_flag_that_the_example_leaves_out_is_tried() -> None:
    compare(Flagged, [(torch.randn(2, 3, 8, 8),), (torch.randn(2, 3, 8, 8), True)])


def test_two_ways_that_stand_in_one_line_are_both_tried() -> None:
    x = torch.randn(2, 3, 8, 8)
    compare(TwoInOneLine, [(x,), (x, True), (x, True, True)])


def test_what_an_argument_that_is_not_there_could_meet_stays_and_is_said() -> None:
    pruner = compare(Masked, [(torch.randn(2, 3, 8, 8),), (torch.randn(2, 3, 8, 8), torch.rand(2, 16, 8, 8))])
    assert [w.name for w in pruner.graph.widths] == ["c2"]
    assert "doesn't run on the example, and it can't be tried (TypeError" in pruner.doubts[0]
    assert "test_ways_not_taken.py:" in pruner.doubts[0]


class Cached(Net):
    """A way that fails fills a cache which the way that is taken finds empty."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.cache = nn.Parameter(torch.rand(16)), dict[str, Tensor]()

    def scaled(self, x: Tensor) -> Tensor:
        if "scale" not in self.cache:
            self.cache["scale"] = self.scale[:16, None, None]
        return x * self.cache["scale"]

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.c1(x))
        if x.shape[-1] > 8:
            x = self.scaled(x).reshape(-1, 7)
        return self.end(self.scaled(x))


def test_a_way_that_fails_leaves_caches_as_they_were() -> None:
    pruner = compare(Cached, [(torch.randn(2, 3, 8, 8),)])
    assert "can't be tried (RuntimeError" in pruner.doubts[0]


class HalfOfLargeImages(Net):
    """Nothing behind the fork says how many channels there are; a layer before it reads all."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.c1(x))
        before = self.c2(x)
        if x.shape[-1] > 8:
            x = x[:, :8]
        return self.fc(before.mean((2, 3))) + x.mean((1, 2, 3))[:, None]


class ALayerForEither(Net):
    """Two forks that belong together."""

    def __init__(self) -> None:
        super().__init__()
        self.both, self.one = nn.Conv2d(32, 16, 1), nn.Conv2d(16, 16, 1)

    def forward(self, x: Tensor, more: Tensor | None = None) -> Tensor:
        x = F.relu(self.c1(x))
        if more is None:
            x = torch.cat([x, x.sigmoid()], 1)
        x = self.both(x) if more is None else self.one(x)
        return self.end(x)


class UpWithSkip(nn.Module):
    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(a, b, 3, padding=1)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        if skip is not None:
            x = torch.cat([x, skip], 1)
        return self.conv(x).relu()


class OptionalSkips(Net):
    """A block with a skip connection can't do without: its layer reads what is joined."""

    def __init__(self) -> None:
        super().__init__()
        self.c2 = nn.Conv2d(16, 24, 3, padding=1)
        self.blocks = nn.ModuleList([UpWithSkip(40, 12), UpWithSkip(12, 16)])

    def forward(self, x: Tensor) -> Tensor:
        first = self.c1(x).relu()
        x, skips = self.c2(first), [first]
        for i, block in enumerate(self.blocks):
            skip = skips[i] if i < len(skips) else None
            x = block(x, skip)
        return self.fc(x.mean((2, 3)))


def test_channels_stay_where_another_way_gives_a_part_of_them_to_something_without_weights() -> None:
    pruner = compare(HalfOfLargeImages, [(torch.randn(2, 3, n, n),) for n in (8, 12)])
    assert [w.name for w in pruner.graph.widths] == ["c2"]


def test_channels_stay_where_the_other_way_ends_at_a_fork_of_its_own() -> None:
    compare(ALayerForEither, [(torch.randn(2, 3, 8, 8),), (torch.randn(2, 3, 8, 8), torch.zeros(1))])


def test_a_way_that_gives_a_layer_too_few_channels_is_none() -> None:
    pruner = compare(OptionalSkips, [(torch.randn(2, 3, n, n),) for n in (8, 12)])
    assert {w.name for w in pruner.graph.widths} >= {"c1", "c2"}


class Windows(nn.Module):
    """Attention within windows: a mask, if there is one, has numbers for each window."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(12, 36), nn.Linear(12, 5)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = self.qkv(x).reshape(-1, 4, 3, 3, 4).permute(2, 0, 3, 1, 4)
        attention = q @ k.transpose(-2, -1)
        if mask is not None:
            attention = attention.view(-1, len(mask), 3, 4, 4) + mask.unsqueeze(1).unsqueeze(0)
            attention = attention.view(-1, 3, 4, 4).softmax(-1)
        else:
            attention = attention.softmax(-1)
        return self.out((attention @ v).transpose(1, 2).reshape(-1, 4, 12))


class Shifted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.windows = Windows()
        self.register_buffer("mask", torch.randn(2, 4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.windows(x, self.mask if len(x) == 4 else torch.zeros(len(x), 4, 4))


def test_heads_go_whole_where_another_way_has_no_mask() -> None:
    graph = trace(Shifted(), torch.randn(4, 4, 12))
    assert [(w.size, {u.slot.layer for u in w.uses}) for w in graph.widths] == [(3, {"windows.qkv", "windows.out"})]


class DropsAPartOfSmallImages(Net):
    def forward(self, x: Tensor) -> Tensor:
        parts = [F.relu(self.c1(x)), 0.0]
        if x.shape[-1] < 8:
            parts[0] = 0.0
        return self.end(parts[0] + parts[1])


class NotesNumbersOfSmallImages(Net):
    def forward(self, x: Tensor) -> Tensor:
        shift, padded = [1, 1], True
        if x.shape[-1] < 8:
            shift[0] = -1
            padded = False
        return self.end(F.relu(self.c1(x)) * (1 + shift[0] * padded))


def test_a_constant_in_place_of_a_tensor_is_tried() -> None:
    graph = trace(DropsAPartOfSmallImages(), torch.zeros(2, 3, 8, 8))
    assert graph.untaken and graph.further


def test_a_way_that_only_notes_numbers_needs_no_run() -> None:
    graph = trace(NotesNumbersOfSmallImages(), torch.zeros(2, 3, 8, 8))
    assert not graph.untaken and not graph.further
    assert [width.size for width in graph.widths] == [16, 16]


def test_an_example_more_makes_it_run() -> None:
    image = torch.randn(1, 3, 8, 8)
    examples = [image, (image, torch.rand(1, 1, 8, 8))]
    pruner = compare(Masked, [(torch.randn(2, 3, 8, 8), torch.rand(2, 1, 8, 8))], example=examples)
    assert [w.name for w in pruner.graph.widths] == ["c1", "c2"]
    assert not pruner.doubts


def test_all_examples_are_verified() -> None:
    image = torch.randn(1, 3, 8, 8)
    bundle = prune(Masked(), [image, {"x": image, "mask": torch.rand(1, 1, 8, 8)}], ratio=0.5)
    assert bundle.summary["verified"]


def test_an_example_that_fails_is_named() -> None:
    with pytest.raises(NotPrunableError, match="can't be run on example 2: RuntimeError"):
        trace(LargeImages(), [torch.randn(1, 3, 8, 8), torch.randn(1, 4, 8, 8)])


class EvaluationOnly(Net):
    def __init__(self) -> None:
        super().__init__()
        self.aux = nn.Conv2d(16, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.c1(x))
        if not self.training:
            x = self.aux(x)
        return self.end(x)


class ScaledInTraining(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.c1(x))
        if self.training:
            x = x / x.shape[1]
        return self.end(x)


class Auxiliary(Net):
    def __init__(self) -> None:
        super().__init__()
        self.aux = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.c1(x))
        if self.training:
            return self.end(x), self.aux(x.mean((2, 3)))
        return self.end(x)


class Temperature(Net):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(16, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.c1(x))
        x = x if self.training else x * self.scale
        return self.end(x)


class LayerDrop(Net):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(16, 16, 1) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.c1(x))
        for layer in self.layers:
            if self.training and random.random() < 0.5:
                continue
            x = layer(x)
        return self.end(x)


class Graded(Net):
    def __init__(self) -> None:
        super().__init__()
        self.mid = nn.Conv2d(16, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.c1(x))
        if self.training and x.requires_grad:
            x = torch.utils.checkpoint.checkpoint(self.mid, x, use_reentrant=False)
        elif torch.is_grad_enabled():
            x = self.mid(x) * 1.0
        else:
            x = self.mid(x)
        return self.end(x)


MODES = {
    "a layer in evaluation only": EvaluationOnly, "a factor in training only": ScaledInTraining,
    "an auxiliary head": Auxiliary, "a scale in evaluation only": Temperature, "layer drop": LayerDrop,
    "a way for gradients": Graded,
}  # fmt: skip


@pytest.mark.parametrize("training", [False, True], ids=["in evaluation", "in training"])
@pytest.mark.parametrize("cls", MODES.values(), ids=MODES)
def test_the_file_computes_the_same_in_both_modes(cls: type[nn.Module], training: bool) -> None:
    pruner = compare(cls, [(torch.randn(2, 3, 8, 8),)], training)
    assert pruner.graph.widths


def test_the_model_its_buffers_and_random_numbers_are_left_as_they_were() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Dropout(0.5), LargeNorm())
    before = {k: v.clone() for k, v in model.state_dict().items()}
    states = torch.get_rng_state(), random.getstate()
    trace(model, torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert torch.equal(states[0], torch.get_rng_state()) and states[1] == random.getstate()


class LargeNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x) if self.training or x.shape[-1] > 8 else x


LIBRARY = {
    "helpers.py": """
        import functools

        def renamed(forward):
            @functools.wraps(forward)
            def wrapper(self, *args, **kwargs):
                if "image" in kwargs:
                    kwargs["x"] = kwargs.pop("image")
                return forward(self, *args, **kwargs)
            return wrapper

        def attend(module, x, bias=None):
            if bias is None:
                return x * module.scale
            return bias.view(x.shape) + x
        """,
    "layers.py": """
        import torch
        from torch import nn
        from .helpers import attend, renamed

        class Net(nn.Module):
            scale = 2.0

            def __init__(self):
                super().__init__()
                self.c1, self.c2, self.fc = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 1), nn.Linear(16, 5)

            @renamed
            def forward(self, x, bias=None):
                x = self.c1(x)
                x = x.where(x > 0, x.new_zeros(()))
                return self.fc(self.c2(attend(self, x)).mean((2, 3)))
        """,
}


class FailsInALayer(Net):
    """The way that isn't taken gives a layer too few channels; channels are counted behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.both = nn.Sequential(nn.Conv2d(32, 16, 1), nn.ReLU())

    def joined(self, x: Tensor, alone: bool) -> Tensor:
        return self.both(x) if alone else self.both(torch.cat([x, x], 1))

    def forward(self, x: Tensor, alone: bool = False) -> Tensor:
        x = self.joined(F.relu(self.c1(x)), alone)
        return self.end(torch.cat([x, x[:, :8]], 1)[:, :16])


def test_a_layer_that_fails_is_left_again() -> None:
    pruner = compare(FailsInALayer, [(torch.randn(2, 3, 8, 8),)])
    assert "trying it fails" in pruner.graph.why("c1")
    assert {w.name for w in pruner.graph.widths} == {"c2"}


class ManyOptions(nn.Module):
    """What only other settings give is asked for at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(7))

    def forward(self, x: Tensor, more: Any = None) -> Tensor:
        for at, layer in enumerate(self.layers):
            x = self.step(x if more is None else x + more[at], layer)
        return x

    def step(self, x: Tensor, layer: nn.Module, shift: Any = None) -> Tensor:
        return layer(x if shift is None else x + shift.scale) + x


def test_a_refusal_names_few_reasons_and_the_way_out() -> None:
    with pytest.raises(NotPrunableError) as caught:
        BasicPruning(ManyOptions(), torch.randn(2, 8)).graph  # noqa: B018
    said = str(caught.value)
    assert "nothing can be pruned" in said and "trying it fails" in said
    assert said.count("(") < 12 and said.endswith("--example may return a list of inputs")


@pytest.mark.parametrize("installed", [True, False], ids=["installed", "the author's"])
def test_helpers_of_an_installed_library_are_not_tried_wherever_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    package = tmp_path / f"library_{installed}"
    package.mkdir()
    for name, text in {"__init__.py": "", **LIBRARY}.items():
        (package / name).write_text(textwrap.dedent(text))
    if installed:
        (tmp_path / "library-1.0.dist-info").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    layers = importlib.import_module(f"{package.name}.layers")
    graph = trace(layers.Net(), torch.randn(2, 3, 8, 8))
    assert bool(graph.untaken) is not installed
    assert {w.name for w in graph.widths} == {"c1", "c2"}


def test_the_first_function_that_a_process_watches_is_watched(tmp_path: Path) -> None:
    """Python 3.12 would report nothing of it, Python 3.13 nothing of any function."""
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\n\nclass Net(nn.Linear):\n    def forward(self, x, twice=False):\n"
        "        return super().forward(x if not twice else 2 * x)\n"
    )
    script = (
        "import net, torch\nfrom secateur.pruners.run import Modules, Watch, run\n"
        "model = net.Net(2, 2)\nwatch = Watch(Modules(model))\n"
        "with watch.watching():\n    run(model, (torch.zeros(1, 2),), {})\nprint(len(watch.visits))\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=env)
    assert done.stdout == "1\n", done.stderr


class Pyramid(Net):
    """Picks a layer by its number, as helpers that are scripted do; a setting leaves one out."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ModuleList([nn.Conv2d(16, 16, 1), nn.Conv2d(6, 16, 1)])
        self.c3, self.c4, self.depth = nn.Conv2d(16, 6, 1), nn.Conv2d(4, 6, 1), 1

    def inner_of(self, x: Tensor, number: int) -> Tensor:
        for i, layer in enumerate(self.inner):
            if i == number:
                x = layer(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        x = self.c1(x)
        y = self.c3(x)
        if self.depth > 1:
            y = self.c4(y)
        return self.end(self.inner_of(x, 0) + self.inner_of(y, 1))


def test_a_way_in_which_a_layer_does_not_fit_is_none_where_it_is_meant_for_something_else() -> None:
    pruner = compare(Pyramid, [(torch.randn(2, 3, 8, 8),)])
    assert {"c1", "c3"} <= {w.name for w in pruner.graph.widths}
