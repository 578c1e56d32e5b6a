"""Whole layers that go: which can, which are chosen, and what is written without them."""

from __future__ import annotations

import copy
import json
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from app_helpers import app, refusal
from torch import Tensor, nn

from secateur import prune
from secateur.pruners.base import BasicPruning
from secateur.pruners.depth import Depth, without_layers
from secateur.pruners.errors import BudgetError, NotPrunableError, PlanError

EXAMPLE = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))


class Residual(nn.Module):
    """Adds something to what it gets."""

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.up = nn.Linear(dim, inner)
        self.down = nn.Linear(inner, dim)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(torch.tanh(self.up(x)))


class PostNorm(nn.Module):
    """The same with a norm of the sum, as BERT has it."""

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.inner = Residual(dim, inner)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.inner(x))


class Gate(nn.Module):
    """Weighs what it gets: nothing is added."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weigh = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.weigh(x))


class Stack(nn.Module):
    def __init__(self, dim: int = 6, depth: int = 4, inner: int = 8) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Residual(dim, inner) for _ in range(depth)])
        self.head = nn.Linear(dim, 3)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Pairs(nn.Module):
    """Attention and feed-forward side by side in lists that never run themselves."""

    def __init__(self, dim: int = 6, depth: int = 3) -> None:
        super().__init__()
        self.layers = nn.ModuleList([
            nn.ModuleList([nn.Linear(dim, dim), nn.Sequential(nn.Linear(dim, 9), nn.GELU(), nn.Linear(9, dim))])
            for _ in range(depth)
        ])  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        for mix, feed in self.layers:
            x = mix(x) + x
            x = feed(x) + x
        return x


class Collects(Stack):
    """Counts on which layer is which."""

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i == 2:
                kept.append(x)
        return self.head(x + kept[0])


class Twice(Stack):
    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(block(x))
        return self.head(x)


def seeded(cls: type[nn.Module], *args: object) -> nn.Module:
    torch.manual_seed(0)
    return cls(*args).eval()


@contextmanager
def skipped(model: nn.Module, *names: str) -> Iterator[None]:
    """These layers give what they get: another way to leave them out."""
    before = {name: model.get_submodule(name).forward for name in names}
    for name in names:
        model.get_submodule(name).forward = lambda x: x  # type: ignore[method-assign]
    try:
        yield
    finally:
        for name in before:
            del model.get_submodule(name).forward


# -- what is refused


def test_a_network_without_residual_layers_is_refused() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), Gate(6), nn.ReLU(), nn.Linear(6, 6))
    with pytest.raises(NotPrunableError, match="no list of the network holds residual layers"):
        BasicPruning(model, EXAMPLE).shorten(0.5)


@pytest.mark.parametrize("keep", [0, 1, 1.5, -0.5])
def test_a_share_outside_of_0_to_1_is_refused(keep: float) -> None:
    with pytest.raises(BudgetError, match="must lie between 0 and 1"):
        BasicPruning(seeded(Stack), EXAMPLE).shorten(keep)


def test_more_than_all_but_one_of_a_list_is_refused_with_the_least_that_can_stay() -> None:
    with pytest.raises(BudgetError, match=r"of 4 residual layers 3 can go.*0\.25 is the least"):
        BasicPruning(seeded(Stack), EXAMPLE).shorten(0.1)


def test_a_plan_that_takes_out_an_unknown_layer_is_refused() -> None:
    with pytest.raises(PlanError, match=r"'blocks\.9'"):
        BasicPruning(seeded(Stack), EXAMPLE).take_out(["blocks.9"])


def test_a_plan_that_takes_out_what_adds_to_nothing_is_refused() -> None:
    with pytest.raises(NotPrunableError, match="head"):
        BasicPruning(seeded(Stack), EXAMPLE).take_out(["head"])


def test_layers_and_a_budget_of_latency_are_refused_together() -> None:
    code, said = refusal("prune", "--arch", "resnet20", "--layers", "0.5", "--latency", "0.5")
    assert code == 2 and "--layers goes with" in said


# -- which can go


@pytest.mark.parametrize(
    "model, names",
    [
        (seeded(Stack), ["blocks.0", "blocks.1", "blocks.2", "blocks.3"]),
        (seeded(Pairs), ["layers.0", "layers.1", "layers.2"]),
        (nn.Sequential(PostNorm(6, 8), PostNorm(6, 8)).eval(), ["0", "1"]),
        (nn.Sequential(nn.Sequential(Residual(6, 4), Residual(6, 4)), nn.Linear(6, 2)).eval(), ["0.0", "0.1"]),
    ],
    ids=["a list that is run through", "lists of lists", "norms of sums", "lists in lists"],
)
def test_layers_that_add_can_go(model: nn.Module, names: list[str]) -> None:
    found = Depth(model, EXAMPLE).layers
    assert [r.name for r in found] == names and not any(r.why for r in found)


@pytest.mark.parametrize(
    "cls, staying, why",
    [(Twice, ["blocks.0", "blocks.1", "blocks.2", "blocks.3"], "more than once"),
     (Collects, ["blocks.0", "blocks.1", "blocks.2"], "counted on")],
)  # fmt: skip
def test_layers_that_the_code_counts_on_stay(cls: type[nn.Module], staying: list[str], why: str) -> None:
    whys = {r.name: r.why for r in Depth(seeded(cls), EXAMPLE).layers if r.why}
    assert list(whys) == staying and all(why in w for w in whys.values())


def test_layers_of_a_network_that_draws_noise_can_go() -> None:
    class Noisy(Stack):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x + torch.randn_like(x))

    assert len(Depth(seeded(Noisy), EXAMPLE).layers) == 4


def test_looking_leaves_the_network_as_it_was() -> None:
    model = seeded(Pairs).train()
    state, names = copy.deepcopy(model.state_dict()), [n for n, _ in model.named_modules()]
    assert Depth(model, EXAMPLE).layers
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), state.values(), strict=True))
    assert [n for n, _ in model.named_modules()] == names and model.training
    assert not any(m._forward_hooks for m in model.modules())


def test_without_layers_a_network_computes_what_it_does_when_they_pass_on_what_they_get() -> None:
    model = seeded(Stack)
    short = without_layers(model, ["blocks.0", "blocks.2"])
    with skipped(model, "blocks.0", "blocks.2"):
        assert torch.equal(short(EXAMPLE), model(EXAMPLE))
    assert len(model.blocks) == 4 and len(short.blocks) == 2  # type: ignore[arg-type]


def test_names_that_count_are_counted_anew() -> None:
    blocks = OrderedDict((f"block{i}", Residual(6, 4)) for i in (1, 2, 3))
    model = nn.Sequential(nn.Sequential(blocks), nn.Linear(6, 2)).eval()
    assert list(without_layers(model, ["0.block1"])[0]._modules) == ["block1", "block2"]  # type: ignore[index]
    model = nn.Sequential(OrderedDict(first=Residual(6, 4), second=Residual(6, 4), last=Residual(6, 4))).eval()
    assert list(without_layers(model, ["second"])._modules) == ["first", "last"]


def test_the_layers_that_do_least_go() -> None:
    model = seeded(Stack)
    with torch.no_grad():
        for i, factor in enumerate((1, 0.01, 1, 0.02)):
            model.blocks[i].down.weight.mul_(factor)  # type: ignore[index, union-attr]
            model.blocks[i].down.bias.mul_(factor)  # type: ignore[index, union-attr]
    assert Depth(model, EXAMPLE).chosen(0.5) == ["blocks.1", "blocks.3"]


# -- what is written


def test_the_author_s_loop_is_shorter_and_the_file_computes_the_network_without_them() -> None:
    model = seeded(Stack)
    bundle = prune(model, EXAMPLE, layers=0.5)
    assert "Residual(dim, inner) for _ in range(depth)" in bundle.source
    assert "depth: int = 2" in bundle.source
    with skipped(model, *bundle.summary["without"]):
        torch.testing.assert_close(bundle.model(EXAMPLE), model(EXAMPLE))
    assert bundle.summary["params"] == {
        "before": sum(p.numel() for p in model.parameters()), "after": sum(p.numel() for p in bundle.model.parameters())
    }  # fmt: skip


def test_a_budget_counts_from_the_whole_network_and_widths_go_after_layers() -> None:
    model = seeded(Stack)
    params = prune(model, EXAMPLE, layers=0.75, params=0.5).summary["params"]
    whole = sum(p.numel() for p in model.parameters())
    assert params["before"] == whole and 0.4 * whole < params["after"] <= 0.5 * whole


def test_a_budget_that_layers_alone_meet_takes_no_channel() -> None:
    bundle = prune(seeded(Stack), EXAMPLE, layers=0.5, params=0.9)
    assert all(len(w.kept) == w.size for w in bundle.plan.widths.values())


def test_a_residual_network_loses_blocks_and_the_plan_repeats_it(tmp_path: Path) -> None:
    made = app("prune", "--arch", "resnet20", "--layers", "0.6", "--ratio", "0.25", "-q", "-o", str(tmp_path / "a"))
    assert made.exit_code == 0, made.output
    told = json.loads((tmp_path / "a" / "summary.json").read_text())
    written = (tmp_path / "a" / told["file"]).read_text()
    assert len(told["without"]) == 3 and written.count("BasicBlock(") < 10
    again = app("apply", str(tmp_path / "a" / "plan.json"), "-q", "-o", str(tmp_path / "b"))
    assert again.exit_code == 0, again.output
    assert (tmp_path / "b" / told["file"]).read_text() == written
