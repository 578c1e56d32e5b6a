"""Candidates that start where they begin to differ give what whole passes give, bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from deep_networks import Deep, timeless
from judged_search import judged_search
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map
from zoo_cases import CASES, pruner_of

from secateur.pruners.base import BasicPruning
from secateur.pruners.costs import Budget
from secateur.pruners.run import call_arguments
from secateur.pruners.search import SearchResult, SearchSettings
from secateur.pruners.search.prefix_cache import PrefixCache

pytestmark = pytest.mark.filterwarnings("ignore")


class Bench:
    """Candidates of one network, each evaluated on three batches in whole passes and with a cache."""

    def __init__(self, pruner: BasicPruning, limit: int = 1 << 30) -> None:
        self.pruner, self.cache = pruner, PrefixCache(limit)
        generator = torch.Generator().manual_seed(1)

        def other(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor) or not leaf.is_floating_point():
                return leaf
            return torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype)

        self.batches = [pruner.example_input, *(tree_map(other, pruner.example_input) for _ in range(2))]
        self.passes = 0

    def evaluate(self, model: nn.Module) -> list[Tensor]:
        self.passes += 1
        outputs = []
        with torch.no_grad():
            for batch in self.batches:
                args, kwargs = call_arguments(tree_map(lambda t: t.clone() if isinstance(t, Tensor) else t, batch))
                outputs += [t for t in tree_leaves(model.eval()(*args, **kwargs)) if isinstance(t, Tensor)]
        return outputs

    def check(self, width: str, make: Callable[[], nn.Module]) -> None:
        cached = self.cache.evaluate(width, make, self.evaluate)
        whole = self.evaluate(make())
        assert len(cached) == len(whole)
        for a, b in zip(cached, whole, strict=True):
            assert torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num())

    def search(self) -> dict[str, int]:
        """Width by width, two candidates each; how much was skipped."""
        pruner, decided = self.pruner, {}
        ranking = pruner.rank("random")
        skipped = {}
        for width in pruner.graph.widths:
            self.cache.start_from(lambda decided=decided: pruner.realize(decided))
            for part in (2, 3):
                count = max(width.n_blocks, width.size * (part - 1) // part // width.n_blocks * width.n_blocks)
                kept = {**decided, width.name: ranking.keep(width.name, count)}
                self.check(width.name if count < width.size else "", lambda kept=kept: pruner.realize(kept))
            skipped[width.name] = self.cache.skipped(width.name)
            decided = kept
        return skipped


def bench_of(model: nn.Module, example: Any, limit: int = 1 << 30) -> Bench:
    return Bench(BasicPruning(model.eval(), example), limit)


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case[3]])
def test_networks_of_the_zoo_give_the_same_bits(name: str) -> None:
    _, factory, inputs, _, _ = CASES[name]
    Bench(pruner_of(factory, inputs)).search()


def test_passes_that_can_learn_are_made_whole() -> None:
    bench = bench_of(Chain(), torch.randn(4, 3, 8, 8))
    pruner = bench.pruner
    bench.cache.start_from(lambda: pruner.realize({}))

    def with_gradients(model: nn.Module) -> float:
        model(bench.batches[0]).sum().backward()
        assert all(p.grad is not None for p in model.parameters())
        return 0.0

    def training(model: nn.Module) -> bool:
        with torch.no_grad():
            model.train()(bench.batches[0])
        return True

    for evaluate in (with_gradients, training):
        bench.cache.evaluate("b", lambda: pruner.realize({"b": [0, 1]}), evaluate)
    assert bench.cache.skipped("b") == 0


def test_an_error_of_the_networks_own_comes_through() -> None:
    bench = bench_of(Chain(), torch.randn(4, 3, 8, 8))
    bench.cache.start_from(lambda: bench.pruner.realize({}))

    def broken(model: nn.Module) -> float:
        bench.evaluate(model)
        raise ZeroDivisionError("the evaluation's own")

    with pytest.raises(ZeroDivisionError, match="the evaluation's own"):
        bench.cache.evaluate("b", lambda: bench.pruner.realize({"b": [0, 1]}), broken)


def test_nothing_is_kept_beyond_the_limit() -> None:
    model, images = Chain(), torch.randn(4, 3, 8, 8)
    whole = bench_of(model, images)
    whole.search()
    one = max(b.bytes for b in whole.cache._batches.values())
    for limit, batches in ((0, 0), (one // 2, 0), (one, 1), (2 * one, 2), (3 * one, 3)):
        bench = bench_of(model, images, limit)
        bench.search()
        assert len(bench.cache._batches) == batches
        assert sum(b.bytes for b in bench.cache._batches.values()) <= limit


def test_a_candidate_that_differs_earlier_than_was_seen_is_evaluated_again() -> None:
    bench = bench_of(Chain(), torch.randn(4, 3, 8, 8))
    pruner, cache = bench.pruner, bench.cache
    cache.start_from(lambda: pruner.realize({}))
    bench.check("c", lambda: pruner.realize({"c": [0, 1]}))
    late = cache.skipped("c")
    bench.check("c", lambda: pruner.realize({"b": [0, 1, 2], "c": [0, 1]}))
    assert 0 < cache.skipped("c") < late
    bench.check("c", lambda: pruner.realize({"a": [0, 1, 2]}))
    assert cache.skipped("c") == 0


def test_other_weights_and_other_images_are_noticed() -> None:
    bench = bench_of(Chain(), torch.randn(4, 3, 8, 8))
    pruner, cache = bench.pruner, bench.cache
    for _ in range(2):
        cache.start_from(lambda: pruner.realize({}))
        bench.check("c", lambda: pruner.realize({"c": [0, 1]}))
        with torch.no_grad():  # as retraining does
            pruner.model.b.weight.mul_(1.5)
    bench.batches = [b + 1 for b in bench.batches]
    cache.start_from(lambda: pruner.realize({}))
    for count in (2, 3):
        bench.check("c", lambda count=count: pruner.realize({"c": list(range(count))}))
    bench.batches = [*bench.batches[1:], torch.randn(2, 3, 8, 8)]
    bench.check("c", lambda: pruner.realize({"c": [0, 3]}))
    assert cache.skipped("c") > 0


class Chain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.c, self.fc = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.end(self.c(self.middle(self.b(self.a(x).relu())))))

    def middle(self, x: Tensor) -> Tensor:
        return x.relu()

    def end(self, x: Tensor) -> Tensor:
        return x.relu().mean((2, 3))


class WrittenAfterwards(Chain):
    """What is handed out is written to, through a view of it."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(self.a(x).relu())
        first = x[:, :, :4]
        y = self.c(x)
        first.mul_(2)
        y.add_(x)
        return self.fc(self.end(y + self.c(x.relu_())))


class WritesItsInput(Chain):
    def forward(self, x: Tensor) -> Tensor:
        shown = x[:, :, ::2]
        y = self.c(self.middle(self.b(self.a(x).relu())))
        x.sub_(0.5)
        return self.fc(self.end(y)) + shown.mean()


class Residual(Chain):
    def middle(self, x: Tensor) -> Tensor:
        return nn.functional.relu(x, inplace=True) + nn.functional.dropout(x, 0.5, self.training)


class Draws(Chain):
    def middle(self, x: Tensor) -> Tensor:
        return x + torch.rand(())


class Counts(Chain):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("passes", torch.zeros(()))

    def middle(self, x: Tensor) -> Tensor:
        self.passes += 1
        return x * self.passes


class Decides(Chain):
    """Another way for every batch, perhaps."""

    def middle(self, x: Tensor) -> Tensor:
        return x.relu() if x.sum() > 0 else x.tanh() * x.max().item()


class Swallows(Chain):
    """Takes any error for a reason to go another way."""

    def end(self, x: Tensor) -> Tensor:
        try:
            return x.relu().mean((2, 3)) * float(self.seen.mean())
        except Exception:
            return x.mean((2, 3))

    def middle(self, x: Tensor) -> Tensor:
        self.seen = x
        return x.relu()


class Remembers(Chain):
    """Keeps a result for the next pass."""

    last: Tensor | None = None

    def middle(self, x: Tensor) -> Tensor:
        y = x if self.last is None or self.last.shape != x.shape else x + self.last
        self.last = x.relu()
        return y


class Peeks(Chain):
    def middle(self, x: Tensor) -> Tensor:
        return x * float(x.detach().numpy().mean())


class Attends(Chain):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 1, batch_first=True)

    def middle(self, x: Tensor) -> Tensor:
        flat = x.flatten(2).transpose(1, 2)
        return x + self.attention(flat, flat, flat)[0].transpose(1, 2).reshape(x.shape)


def same_bits(make: Callable[[], nn.Module], expected: int, base: nn.Module) -> None:
    bench = bench_of(Chain(), torch.randn(4, 3, 8, 8))
    bench.cache.start_from(lambda: copy.deepcopy(base))
    for _ in range(2):
        state = torch.get_rng_state()
        cached = bench.cache.evaluate("c", make, bench.evaluate)
        after = torch.get_rng_state()
        torch.set_rng_state(state)
        whole = bench.evaluate(make())
        assert torch.equal(after, torch.get_rng_state())
        assert all(torch.equal(a, b) for a, b in zip(cached, whole, strict=True))
    assert bench.cache.skipped("c") == expected


def halved(model: nn.Module) -> nn.Module:
    """A candidate that differs in one layer."""
    candidate = copy.deepcopy(model)
    with torch.no_grad():
        candidate.get_submodule("c").get_parameter("weight").mul_(0.5)
    return candidate


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (Chain, 2), (WrittenAfterwards, 2), (Residual, 2), (Decides, 2), (Attends, 3),
        (WritesItsInput, 2), (Draws, 2), (Counts, 0), (Swallows, 2), (Remembers, 2), (Peeks, 2),
    ],
)  # fmt: skip
def test_habits_that_could_go_wrong_do_not(network: type[Chain], expected: int) -> None:
    """``expected``: how many modules candidates skip that differ in the last convolution."""
    torch.manual_seed(0)
    model = network().eval()
    same_bits(lambda: halved(model), expected, base=model)


class Before(nn.Module):
    """A network with habits in front of the layer in which candidates differ."""

    def __init__(self, inner: Chain) -> None:
        super().__init__()
        self.inner, self.c = inner, nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.inner(x)) + x.mean()


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (Chain, 1), (WrittenAfterwards, 1), (Residual, 1), (Decides, 1), (Attends, 1), (Peeks, 1),
        (WritesItsInput, 0), (Draws, 0), (Counts, 0), (Swallows, 0), (Remembers, 0),
    ],
)  # fmt: skip
def test_modules_with_such_habits_are_not_skipped(network: type[Chain], expected: int) -> None:
    torch.manual_seed(0)
    model = Before(network()).eval()
    same_bits(lambda: halved(model), expected, base=model)


def test_what_an_evaluation_hooks_on_a_module_is_called() -> None:
    bench = bench_of(Chain(), torch.randn(4, 3, 8, 8))
    bench.cache.start_from(lambda: bench.pruner.realize({}))
    seen = []

    def looked_at(model: nn.Module) -> None:
        handle = model.get_submodule("a").register_forward_hook(lambda *args: seen.append(args))
        bench.evaluate(model)
        handle.remove()

    bench.cache.evaluate("c", lambda: bench.pruner.realize({"c": [0, 1]}), looked_at)
    assert len(seen) == len(bench.batches)


class Searched:
    """A search by layers or by probes, with its evaluations counted."""

    def __init__(self, strategy: str, model: nn.Module, direction: str = "bottom-up") -> None:
        self.pruner = BasicPruning(model.eval(), torch.randn(2, 3, 8, 8))
        generator = torch.Generator().manual_seed(3)
        self.images = torch.randn(24, 3, 8, 8, generator=generator)
        self.labels = torch.randint(0, 3, (24,), generator=generator)
        budget = Budget("macs", 0.6) if strategy == "sensitivity" else None
        self.settings = SearchSettings(
            strategy, budget=budget, direction=direction, init_points=1, n_iter=1, retrain_epochs=1, alpha=0.1
        )

    def evaluate(self, model: nn.Module) -> tuple[float, float]:
        with torch.no_grad():
            outputs = torch.cat([model.eval()(batch) for batch in self.images.split(16)])
        return nn.functional.cross_entropy(outputs, self.labels).item(), 0.0

    def retrain(self, model: nn.Module, epochs: int) -> None:
        loss = nn.functional.cross_entropy(model.train()(self.images), self.labels)
        for p, g in zip(model.parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True):
            p.data.sub_(0.1 * g)
        model.eval()

    def run(self, limit: int, retrained: bool = False, **changed: Any) -> tuple[SearchResult, PrefixCache]:
        cache = PrefixCache(limit)
        result = judged_search(
            self.pruner.model, self.pruner.graph, self.settings, evaluate=self.evaluate,
            retrain=self.retrain if retrained else None, realize=lambda m, kept: self.pruner.realize(kept, m),
            batches=[(self.images, self.labels)], cache=cache, **changed,
        )  # fmt: skip
        return result, cache


@pytest.mark.parametrize(
    ("strategy", "direction", "retrained"),
    [
        ("bayesian", "bottom-up", False), ("bayesian", "bottom-up", True), ("bayesian", "top-down", False),
        ("bayesian", "top-down", True), ("sensitivity", "bottom-up", False),
    ],
)  # fmt: skip
def test_a_search_ends_the_same_with_a_cache(strategy: str, direction: str, retrained: bool) -> None:
    torch.manual_seed(0)
    run = Searched(strategy, Deep(), direction)
    whole, none = run.run(0, retrained)
    cached, cache = run.run(1 << 30, retrained)
    assert timeless(cached) == timeless(whole)
    assert cache.speed.spared > 0 == none.speed.spared
    assert cache.speed.as_dict()["per_second_whole"] < cache.speed.as_dict()["per_second"]


def test_a_search_goes_on_with_a_cache_as_it_began_without(tmp_path: Path) -> None:
    torch.manual_seed(0)
    run, ledger = Searched("bayesian", Deep()), tmp_path / "search.jsonl"
    whole, _ = run.run(0, True, ledger=ledger)
    lines = ledger.read_text().splitlines(keepends=True)
    cut = next(i for i, line in enumerate(lines) if '"decision"' in line)
    ledger.write_text("".join(lines[: cut - 1]))
    resumed, _ = run.run(1 << 30, True, ledger=ledger, resume=True)
    assert timeless(resumed) == timeless(whole)


