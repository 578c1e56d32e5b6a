"""One ratio for every stage, searched jointly."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hand_graphs import graph_of, grouped, plain, use, width
from hypothesis import given
from hypothesis import strategies as st
from search_bench import IMAGES, Bench, Crash, crash_at, events, refusal, without_seconds
from torch import nn

from secateur.commands.cli import PruneOptions
from secateur.commands.prune import settings_from
from secateur.pruners.costs import Allowance, Budget, CostModel, Limits, Step
from secateur.pruners.errors import Interrupted, UsageError
from secateur.pruners.graph import ChannelGraph
from secateur.pruners.search import SearchSettings, Watcher
from secateur.pruners.search.bayesian_staged import ALL, lowest_gone
from secateur.pruners.search.stages import grouped as grouped_by
from secateur.pruners.search.stages import stages

QUICK = {"per": "stage", "init_points": 1, "n_iter": 2, "min_channels": 1}


class Chain(nn.Module):
    """Layers of eight channels one behind the other, each adding to the output by its own share."""

    def __init__(self, shares: tuple[float, ...]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3, 8, 1, bias=False) for _ in shares)
        self.heads = nn.ModuleList(nn.Conv2d(8, 5, 1, bias=False) for _ in shares)
        with torch.no_grad():
            for head, share in zip(self.heads, shares, strict=True):
                head.weight.mul_(share)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return sum(head(layer(x).relu()).mean((2, 3)) for layer, head in zip(self.layers, self.heads, strict=True))


def chain(*shares: float) -> tuple[Chain, ChannelGraph]:
    torch.manual_seed(0)
    model = Chain(shares).eval()
    names = [f"layers.{i}" for i in range(len(shares))]
    widths = [
        width(name, 8, use(f"{name}.weight", 0, "out", 8), use(f"heads.{i}.weight", 1, "in", 8))
        for i, name in enumerate(names)
    ]
    layers = itertools.chain.from_iterable((name, f"heads.{i}") for i, name in enumerate(names))
    return model, graph_of(model, widths, dict.fromkeys(layers, 16))


# -- refusals


@pytest.mark.parametrize("name", ["uniform", "global", "sensitivity"])
def test_other_searches_know_no_stages(name: str) -> None:
    assert refusal(UsageError, SearchSettings, name, per="stage", budget=Budget("macs", 0.5)) == (
        f"--per stage is for --search bayesian, this is {name}: add it, or leave --per out"
    )


def test_the_commands_usual_search_is_no_exception() -> None:
    options = PruneOptions(arch="lenet5", data="digits", macs=0.5, per="stage")
    assert "this is sensitivity" in refusal(UsageError, settings_from, options)


def test_a_search_of_stages_without_data_is_refused() -> None:
    assert refusal(UsageError, Bench().search, SearchSettings(**QUICK), evaluate=None) == (
        "--search bayesian evaluates candidates; give --data or --score, or take --search uniform or global"
    )


@pytest.mark.parametrize("budget, removed", [(None, 0), (Budget("ratio", 0.5), 7)])
def test_a_first_loss_that_is_not_finite_is_refused(budget: Budget | None, removed: int) -> None:
    settings = SearchSettings(**QUICK, budget=budget)
    assert refusal(UsageError, Bench().search, settings, evaluate=lambda model: (float("inf"), 0.0)) == (
        f"the loss is not finite with {removed} of 14 groups of channels removed; check weights and data"
    )


@pytest.mark.parametrize("ratios", ["[0.1]", "[0.1, 2.0]", '[0.1, "x"]', "null"])
def test_a_ledger_without_the_ratios_is_refused(tmp_path: Path, ratios: str) -> None:
    path = tmp_path / "search.jsonl"
    Bench().search(SearchSettings(**QUICK), ledger=path)
    lines = path.read_text().splitlines(keepends=True)
    assert json.loads(lines[2])["event"] == "candidate"
    lines[2] = f'{{"event": "candidate", "step": 1, "ratios": {ratios}}}\n'
    path.write_text("".join(lines))
    assert refusal(UsageError, Bench().search, SearchSettings(**QUICK), ledger=path, resume=True) == (
        "the search ledger has no ratios of candidate 1; start anew without --resume"
    )


def test_a_ledger_of_a_search_per_layer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "search.jsonl"
    settings = SearchSettings(**{**QUICK, "n_iter": 0}, retrain_epochs=0)
    Bench().search(replace(settings, per="layer"), ledger=path)
    assert '(per was "layer", now "stage")' in refusal(UsageError, Bench().search, settings, ledger=path, resume=True)


# -- stages

RESOLUTIONS = st.lists(st.sampled_from([1, 4, 16, 64]), min_size=1, max_size=60)


@given(RESOLUTIONS)
def test_stages_are_consecutive_and_few(resolutions: list[int]) -> None:
    names = [f"w{i}" for i in range(len(resolutions))]
    found = grouped_by(names, resolutions)
    assert all(found)
    assert list(itertools.chain.from_iterable(found)) == names
    assert min(4, len(names)) <= len(found) <= 8


@given(st.lists(st.integers(1, 12), min_size=4, max_size=8))
def test_four_to_eight_runs_are_the_stages(lengths: list[int]) -> None:
    resolutions = [4 ** (10 - i) for i, n in enumerate(lengths) for _ in range(n)]
    assert [len(stage) for stage in grouped_by(list(map(str, range(len(resolutions)))), resolutions)] == lengths


@pytest.mark.parametrize(
    "resolutions, lengths",
    [
        ([1] * 3, [1, 1, 1]),
        ([1] * 10, [2, 3, 2, 3]),
        ([196] + [197] * 9, [1, 3, 3, 3]),
        ([64, 1, 64, 1, 16, 1, 16, 1, 4, 1, 4, 1, 1], [4, 4, 3, 2]),
        ([4, 1] * 5 + [16, 8], [5, 5, 1, 1]),
        ([9, 9, 9, 1, 1, 8, 8, 7, 7, 7, 6, 5, 4, 4, 4, 3, 2, 2], [3, 2, 2, 3, 2, 3, 1, 2]),
    ],
)
def test_runs_are_split_joined_and_freed_of_squeezes(resolutions: list[int], lengths: list[int]) -> None:
    assert [len(stage) for stage in grouped_by(list(map(str, range(len(resolutions)))), resolutions)] == lengths


def test_parts_of_a_packed_weight_are_one_layer() -> None:
    graph = chain(1, 1, 1, 1, 1)[1]
    assert stages(graph) == [("layers.0",), ("layers.1",), ("layers.2",), ("layers.3", "layers.4")]
    positions = graph.positions
    parts = [replace(c, macs=8 * c.macs / positions(c)) for c in graph.contractions if c.module == "layers.2"] * 2
    first = [replace(c, macs=64 * c.macs / positions(c)) for c in graph.contractions if c.module == "layers.0"]
    others = [*first, *(c for c in graph.contractions if c.module != "layers.0")]
    packed = replace(graph, contractions=(*[c for c in others if c.module != "layers.2"], *parts))
    names = ["layers.0", "layers.1", "layers.3", "layers.4", "layers.2"]  # in the order of the run
    assert stages(packed) == [(names[0],), (names[1],), (names[2],), (names[3], names[4])]


# -- what goes


def test_of_a_stage_the_lowest_go_whichever_width_they_are_of() -> None:
    model, graph = chain(1, 1)
    allowance = Allowance(graph, CostModel.of(model, graph), Limits(2, 0.0, 2), None)
    names = ["layers.0", "layers.1"]
    steps = [Step(0.1, names[0], 2), Step(0.2, names[0], 1), Step(0.3, names[1], 2), Step(0.4, names[0], 0)]
    found = [lowest_gone(allowance, names, steps, ratio) for ratio in (0, 1 / 16, 0.1, 0.3, 0.4, 1)]
    assert [tuple(c.values()) for c in found] == [(8, 8), (8, 8), (6, 8), (4, 8), (4, 6), (2, 6)]


@pytest.mark.parametrize("budget", [None, Budget("params", 0.7)])
def test_a_stage_that_is_worth_nothing_goes_first(budget: Budget | None) -> None:
    bench = Bench(chain(1, 0.001), loss_scale=500)
    settings = SearchSettings(
        per="stage", init_points=6, n_iter=6, min_channels=1, max_pruning=0.9, min_fraction=0.0, budget=budget
    )
    result = bench.search(settings)
    counts = {name: len(kept) for name, kept in result.kept.items()}
    assert counts == {"layers.0": 8, "layers.1": 1 if budget is None else 3}
    assert not bench.retrained and result.state is None
    assert max(e.objective for e in result.evaluations) == result.best[ALL].objective


def test_start_points_come_first_and_a_budget_leaves_the_whole_network_out() -> None:
    records = Bench(chain(1, 1, 1, 1)).search(SearchSettings(**QUICK, max_pruning=0.5)).evaluations
    assert [r.ratio for r in records[:3]] == [0, 0.25, 0.5]
    assert [r.step for r in records] == [r.done for r in records] == list(range(1, 7))
    assert {r.total for r in records} == {6}
    settings = SearchSettings(**QUICK, max_pruning=0.5, budget=Budget("ratio", 0.25))
    assert len(Bench(chain(1, 1, 1, 1)).search(settings).evaluations) == 5


@pytest.mark.parametrize("build", [plain, grouped])
@pytest.mark.parametrize("budget", [Budget("macs", 0.6), Budget("params", 0.6), Budget("ratio", 0.4)])
def test_every_candidate_meets_the_budget(build: Any, budget: Budget) -> None:
    bench = Bench(build())
    result = bench.search(SearchSettings(**QUICK, budget=budget))
    result.plan(bench.graph)
    for record in result.evaluations:
        left = record.kept / (record.kept + record.removed) if budget.kind == "ratio" else getattr(record, budget.kind)
        assert budget.limit - 0.15 < left <= budget.limit + 1e-9
        assert record.objective == -record.loss  # size is the budget's affair


def test_without_a_budget_size_counts_as_width_by_width() -> None:
    for record in Bench().search(SearchSettings(**QUICK, alpha=0.5)).evaluations:
        assert record.objective == pytest.approx(-(record.loss + 0.5 * record.params + 0.125 * record.bits))


def test_candidates_keep_a_tenth_and_what_is_asked_for() -> None:
    bench = Bench(chain(1, 1, 1, 1))
    settings = SearchSettings(per="stage", init_points=0, n_iter=0, max_pruning=0.99, alpha=100, round_to=2)
    assert {len(kept) for kept in bench.search(settings).kept.values()} == {2}
    assert settings.limits.min_fraction == 0.1


def test_known_counts_are_answered_from_memory() -> None:
    bench = Bench()
    result = bench.search(SearchSettings(**{**QUICK, "init_points": 12}))
    fresh = [e for e in result.evaluations if not e.cached]
    assert len(bench.evaluated) == len(fresh) < len(result.evaluations)


def test_candidates_have_the_weights_they_would_end_with() -> None:
    bench, finished = Bench(), []

    def finish(model: nn.Module, kept: Any) -> nn.Module:
        finished.append(kept)
        return bench.realize(model, kept)

    bench.search(SearchSettings(**QUICK), finish=finish)
    assert len(finished) == len(bench.evaluated)


def test_a_loss_that_is_not_finite_loses(tmp_path: Path) -> None:
    bench = Bench()

    def fragile(model: nn.Module) -> tuple[float, float]:
        return (float("nan"), 0.0) if model.conv1.out_channels < 7 else bench.evaluate(model)

    result = bench.search(SearchSettings(**QUICK, alpha=50), evaluate=fragile, ledger=tmp_path / "search.jsonl")
    assert len(result.kept["conv1"]) >= 7
    assert any(e.loss is None for e in result.evaluations)
    assert all(np.isfinite(e.objective) for e in result.evaluations)


def test_the_watcher_hears_every_candidate_and_every_width() -> None:
    heard: list[str] = []

    class Listener(Watcher):
        def on_evaluation(self, record: Any) -> None:
            heard.append(record.width)

        def on_decision(self, width: str, size: int, kept: int) -> None:
            heard.append(f"{width} {size} {kept}")

    result = Bench().search(SearchSettings(**QUICK), watcher=Listener())
    decided = [f"{name} {size} {len(result.kept[name])}" for name, size in (("conv1", 8), ("conv2", 6))]
    assert heard == [ALL] * 6 + decided


# -- resuming

SETTINGS = SearchSettings(**QUICK, max_pruning=0.9, budget=Budget("macs", 0.6))


def bench_of_four() -> Bench:
    return Bench(chain(1, 0.5, 2, 0.1))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("whole") / "search.jsonl"
    return bench_of_four().search(SETTINGS, ledger=path), events(path)


def check_same_end(path: Path, uninterrupted: Any) -> None:
    expected, expected_events = uninterrupted
    result = bench_of_four().search(SETTINGS, ledger=path, resume=True)
    assert result.kept == expected.kept
    assert without_seconds(result) == without_seconds(expected)
    assert events(path) == expected_events


def test_the_same_seed_gives_the_same_search(uninterrupted: Any) -> None:
    expected = uninterrupted[0]
    assert without_seconds(bench_of_four().search(SETTINGS)) == without_seconds(expected)
    other = bench_of_four().search(replace(SETTINGS, seed=1))
    assert without_seconds(other) != without_seconds(expected)


@pytest.mark.parametrize("after", range(5))
def test_a_search_that_crashed_resumes_to_the_same_end(tmp_path: Path, uninterrupted: Any, after: int) -> None:
    path, bench = tmp_path / "search.jsonl", bench_of_four()
    with contextlib.suppress(Crash):
        bench.search(SETTINGS, ledger=path, evaluate=crash_at(bench.evaluate, bench, after))
    check_same_end(path, uninterrupted)


@pytest.mark.parametrize("lines", [1, 2, 3, 9, 10, 12])
def test_any_beginning_of_a_ledger_resumes_to_the_same_end(tmp_path: Path, uninterrupted: Any, lines: int) -> None:
    path = tmp_path / "search.jsonl"
    bench_of_four().search(SETTINGS, ledger=path)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:lines]))
    check_same_end(path, uninterrupted)


def test_a_finished_search_replays_without_any_work(tmp_path: Path, uninterrupted: Any) -> None:
    path, bench = tmp_path / "search.jsonl", bench_of_four()
    bench_of_four().search(SETTINGS, ledger=path)
    assert bench.search(SETTINGS, ledger=path, resume=True).kept == uninterrupted[0].kept
    assert not bench.evaluated


def test_ctrl_c_finishes_the_evaluation_and_can_be_resumed(tmp_path: Path, uninterrupted: Any) -> None:
    path, bench = tmp_path / "search.jsonl", bench_of_four()

    def press(model: nn.Module) -> tuple[float, float]:
        if len(bench.evaluated) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return bench.evaluate(model)

    message = refusal(Interrupted, bench.search, SETTINGS, ledger=path, evaluate=press)
    assert re.fullmatch(r"search interrupted after \d of 5 evaluations; continue with --resume", message)
    assert len(bench.evaluated) == 2
    check_same_end(path, uninterrupted)


def test_hopeless_candidates_are_given_up_and_resuming_ends_the_same(tmp_path: Path) -> None:
    bench, seen = bench_of_four(), []

    def evaluate(model: nn.Module, stop: Any = None) -> tuple[float, float]:
        losses = torch.empty(0)
        for images, wanted in zip(IMAGES.split(2), bench.expected.split(2), strict=True):
            with torch.no_grad():
                losses = torch.cat([losses, 500 * (model(images) - wanted).square().mean(1)])
            if stop is not None and stop(losses, len(IMAGES)):
                break
        seen.append(len(losses))
        return losses.mean().item(), 0.0

    path = tmp_path / "search.jsonl"
    settings = SearchSettings(**{**QUICK, "init_points": 8}, max_pruning=0.9, alpha=0.1, stop_early=True)
    expected = bench.search(settings, ledger=path, evaluate=evaluate)
    assert min(seen) < len(IMAGES)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:14]))
    resumed = bench.search(settings, ledger=path, resume=True, evaluate=evaluate)
    assert without_seconds(resumed) == without_seconds(expected)


# -- who should know of it


@pytest.mark.parametrize("many", [1, 2])
def test_a_search_of_many_widths_one_by_one_says_so(
    many: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secateur.pruners.search.bayesian.MANY", many)
    Bench().search(SearchSettings(init_points=0, n_iter=0, retrain_epochs=0))
    said = (
        "2 widths one after the other: up to 6 evaluations; "
        "--per stage searches a few groups of widths at once, in far fewer"
    )
    assert caplog.messages == ([said] if many == 1 else [])


def test_the_command_looks_at_more_points_of_several_stages_than_of_one_width() -> None:
    one, several = (settings_from(PruneOptions(arch="lenet5", data="digits", per=per)) for per in ("layer", "stage"))
    assert (one.init_points, one.n_iter) == (SearchSettings.init_points, SearchSettings.n_iter)
    assert several.init_points > one.init_points and several.n_iter > one.n_iter
