"""Choosing by time. Nothing here depends on how fast this machine is: what is measured is given out by ``Clock``."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from app_helpers import MODEL, app, refusal
from hand_graphs import grouped, plain, slice_by_hand
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from secateur import trace
from secateur.pruners.costs import Allowance, Budget, CostModel, Limits, measure, uniform_counts
from secateur.pruners.errors import BudgetError, Interrupted, UsageError
from secateur.pruners.latency import Measuring, Run, Table, in_turns, timing, verdict_text, with_batch
from secateur.pruners.latency.layers import layers_of
from secateur.pruners.latency.model import never_falling
from secateur.pruners.search import SearchSettings, search

IMAGE = torch.zeros(1, 3, 4, 4)
HERE = {"cpu": "a slide rule", "threads": 1}
HALF = Budget("latency", 0.5)


class Clock:
    """A nanosecond for each multiplication; ``runs`` is what was measured, ``noise`` up to so much more."""

    def __init__(self, noise: float = 0.0) -> None:
        self.runs: list[Run] = []
        self._noise, self._random = noise, np.random.default_rng(0)

    def __call__(self, runs, rounds, seconds=float("inf")):
        self.runs += runs
        return [self._one(run) * (1 + self._noise * self._random.random()) for run in runs]

    @staticmethod
    def _one(run: Run) -> float:
        return 1e-9 * measure(run.model, run.args).macs


def built(made=None, *, path=None, clock=None, machine=HERE, limits=None, realize=True):
    """A latency model, and an allowance that goes by it."""
    limits = limits or Limits()
    model, graph = made or plain()
    table = Table(machine, path)
    costs = CostModel.of(model, graph)
    made_by = (lambda m, kept: slice_by_hand(m, graph, kept)) if realize else None
    measuring = Measuring(table, measure=clock or Clock())
    timed = measuring.model(model, graph, IMAGE, Allowance(graph, costs, limits, None), made_by)
    return timed, Allowance(graph, costs, limits, HALF, timed.fraction)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """No test writes to the user's own cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "secateur" / "latency.json"


# -- refusals


@pytest.mark.parametrize("value", ["0", "1", "1.2", "-0.5", "nan"])
def test_a_value_out_of_range_is_refused(here, value):
    assert refusal("prune", *MODEL, "--latency", value) == (
        2,
        f"error: --latency {float(value):g}: must lie between 0 and 1, both excluded; "
        "0.5 keeps half of the time of one input",
    )


def test_two_budgets_are_refused(here):
    assert refusal("prune", *MODEL, "--latency", "0.5", "--macs", "0.5") == (
        2, "error: give one budget, not --macs and --latency",
    )  # fmt: skip


@pytest.mark.parametrize("option", [("--latency-batch", "2"), ("--latency-table", "t.json")])
def test_options_of_measuring_without_the_budget_are_refused(here, option):
    assert refusal("prune", *MODEL, "--macs", "0.5", *option) == (
        2, "error: --latency-batch and --latency-table say how --latency measures: give --latency",
    )  # fmt: skip


def test_a_target_out_of_reach_is_refused_with_the_least():
    _, allowance = built()
    out_of_reach = Allowance(plain()[1], allowance.costs, Limits(), Budget("latency", 0.01), allowance.fraction)
    with pytest.raises(
        BudgetError, match=r"--latency 0.01: can't be reached.*of the time remain; ask for at least 0\."
    ):
        uniform_counts(out_of_reach)


def test_a_budget_of_latency_without_times_is_refused():
    model, graph = plain()
    with pytest.raises(BudgetError, match="needs measured times"):
        search(model, graph, SearchSettings("uniform", budget=HALF))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("{", "not a JSON text", id="no JSON"),
        pytest.param("[]", "not a table of measured times of this version", id="no object"),
        pytest.param('{"schema": 2, "machines": {}}', "not a table of measured times of this version", id="too new"),
        pytest.param('{"schema": 1, "machines": {"a": 3}}', "not a table of measured", id="no part"),
        pytest.param('{"schema": 1, "machines": {"a": {"seconds": {"x": -1}}}}', "-1 is no time, for x", id="negative"),
        pytest.param('{"schema": 1, "machines": {"a": {"seconds": {"x": NaN}}}}', "nan is no time", id="no number"),
        pytest.param('{"schema": 1, "machines": {"a": {"seconds": {"x": "1"}}}}', "'1' is no time", id="a text"),
    ],
)
def test_a_damaged_table_that_was_named_is_refused(tmp_path, text, reason):
    file = tmp_path / "t.json"
    file.write_text(text)
    with pytest.raises(UsageError, match=f"--latency-table .*t.json: {reason}.*; remove it, or name another file"):
        Table(HERE, file)
    assert file.read_text() == text


def test_a_damaged_cache_is_set_aside_and_measured_anew(cache):
    cache.parent.mkdir(parents=True)
    cache.write_text("{")
    table = Table(HERE)
    assert table.remark.endswith("not a JSON text; it is now latency.damaged, and times are measured anew")
    assert table.seconds == {}
    assert cache.with_suffix(".damaged").read_text() == "{"


# -- the table


def test_what_is_known_is_not_measured_again(cache):
    clock = Clock()
    first, _ = built(clock=clock)
    assert clock.runs
    again, _ = built(clock=lambda *_: pytest.fail("all of this was measured"))
    assert again.digest == first.digest
    assert list(cache.parent.iterdir()) == [cache]


def test_times_of_another_machine_are_not_taken_and_not_lost(tmp_path):
    file = tmp_path / "t.json"
    built(path=file, clock=Clock())
    before = json.loads(file.read_text())["machines"]
    other, clock = {**HERE, "threads": 2}, Clock()
    assert "times of other machines or threads only: measuring anew" in Table(other, file).remark
    built(path=file, clock=clock, machine=other)
    assert clock.runs
    now = json.loads(file.read_text())["machines"]
    assert len(now) == 2
    assert before.items() <= now.items()


def test_two_runs_that_share_a_file_lose_nothing(tmp_path):
    one, two = Table(HERE, tmp_path / "t.json"), Table(HERE, tmp_path / "t.json")
    one.seconds["a"] = 1.0
    one.save()
    two.seconds["b"] = 2.0
    two.save()
    assert Table(HERE, tmp_path / "t.json").seconds == {"a": 1.0, "b": 2.0}


def test_what_was_measured_before_an_interruption_stays(tmp_path, monkeypatch):
    monkeypatch.setattr("secateur.pruners.latency.measuring._CELLS", 20)
    whole = Clock()
    built(path=tmp_path / "whole.json", clock=whole)
    clock = Clock()

    def impatient(runs, rounds, seconds):
        if len(clock.runs) >= 40:
            raise KeyboardInterrupt
        return clock(runs, rounds, seconds)

    with pytest.raises(Interrupted, match=r"the times of 40 layers are in .*t\.json"):
        built(path=tmp_path / "t.json", clock=impatient)
    built(path=tmp_path / "t.json", clock=clock)
    assert len(clock.runs) == len(whole.runs)


# -- prediction


@pytest.mark.parametrize("made", [plain, grouped])
@pytest.mark.parametrize("realize", [True, False])
def test_where_time_goes_by_macs_the_prediction_is_that_of_macs(made, realize):
    timed, allowance = built(made(), realize=realize)
    whole = allowance.costs.count({}).macs
    for fraction in (1, 0.8, 0.6, 0.4, 0.2):
        counts = {name: allowance.nearest(name, fraction * n) for name, n in allowance.sizes.items()}
        assert timed.fraction(counts) == pytest.approx(allowance.costs.count(counts).macs / whole, abs=0.02)


@pytest.mark.parametrize("made", [plain, grouped])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(data=st.data(), noise=st.sampled_from([0.0, 0.5, 3.0]))
def test_more_channels_are_never_faster(made, data, noise):
    timed, allowance = known(made, noise)
    low = {name: data.draw(st.sampled_from(allowed)) for name, allowed in allowance.levels.items()}
    high = {n: data.draw(st.sampled_from([x for x in allowance.levels[n] if x >= low[n]])) for n in low}
    assert timed.fraction(low) <= timed.fraction(high) + 1e-12
    assert timed.fraction(low) >= 0
    assert timed.fraction(low) == timed.fraction(dict(low))


_KNOWN: dict = {}


def known(made, noise):
    """Models by network and noise, made once: Hypothesis asks for them often."""
    if (made, noise) not in _KNOWN:
        machine = {**HERE, "noise": noise, "network": made.__name__}
        _KNOWN[made, noise] = built(made(), clock=Clock(noise), machine=machine)
    return _KNOWN[made, noise]


def test_grids_that_fall_are_levelled():
    found = never_falling(np.array([[1.0, 3.0, 2.0], [4.0, 2.0, 5.0]]))
    assert (np.diff(found, axis=0) >= 0).all()
    assert (np.diff(found, axis=1) >= 0).all()
    level = np.array([[1.0, 2.0], [1.5, 4.0]])
    assert (never_falling(level) == level).all()


def test_what_no_layer_explains_is_learnt_from_whole_versions():
    """Here functions take as long again as the layers, whatever the widths."""
    model, graph = plain()
    whole = 1e-9 * measure(model, IMAGE).macs
    clock = Clock()

    def slow(runs, rounds, seconds):
        extra = [whole if isinstance(run.model, type(model)) else 0.0 for run in runs]
        return [a + b for a, b in zip(clock(runs, rounds), extra, strict=True)]

    timed, allowance = built((model, graph), clock=slow)
    counts = {name: allowance.nearest(name, 0.5 * n) for name, n in allowance.sizes.items()}
    share = allowance.costs.count(counts).macs / allowance.costs.count({}).macs
    assert timed.fraction(counts) == pytest.approx((share + 1) / 2, abs=0.04)


def test_layers_are_cut_as_the_network_will_be():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.Conv2d(16, 16, 3, groups=16), nn.GroupNorm(4, 16),
        nn.ConvTranspose2d(16, 12, 2), nn.Flatten(), nn.Linear(12 * 25, 20), nn.LayerNorm(20), nn.Linear(20, 5),
    ).eval()  # fmt: skip
    image = torch.rand(1, 3, 8, 8)
    graph = trace(model, image)
    allowance = Allowance(graph, CostModel.of(model, graph), Limits(), None)
    layers = layers_of(model, graph, allowance, (image,), {})
    assert [layer.path for layer in layers] == ["0", "1", "2", "3", "4", "6", "7", "8"]
    for layer in layers:
        for sizes in ([a.measured[0] for a in layer.axes], [a.measured[-1] for a in layer.axes]):
            layer.cut(sizes)()
    grouped_norm = next(layer for layer in layers if layer.path == "3")
    assert all(n % 4 == 0 for n in grouped_norm.axes[0].measured)
    flattened = next(layer for layer in layers if layer.path == "6")
    assert any(a.size == 300 and all(n % 25 == 0 for n in a.measured) for a in flattened.axes)


def test_rounded_widths_are_measured_where_they_can_be():
    model = nn.Sequential(nn.Conv2d(3, 64, 1), nn.Conv2d(64, 5, 1))
    graph = trace(model, IMAGE)
    allowance = Allowance(graph, CostModel.of(model, graph), Limits(round_to=16), None)
    first = layers_of(model, graph, allowance, (IMAGE,), {})[0]
    assert first.axes[0].measured == (1, 16, 32, 48, 64)


def test_a_layer_of_ones_own_is_known_by_its_code():
    class Doubled(nn.Conv2d):
        def forward(self, x):
            return 2 * super().forward(x)

    model = nn.Sequential(Doubled(3, 8, 1), nn.Conv2d(8, 5, 1))
    graph = trace(model, IMAGE)
    allowance = Allowance(graph, CostModel.of(model, graph), Limits(), None)
    names = [layer.cut([a.size for a in layer.axes]).name for layer in layers_of(model, graph, allowance, (IMAGE,), {})]
    assert "Doubled@" in names[0]
    assert names[1].startswith("torch.nn.modules.conv.Conv2d ")


def test_inputs_are_repeated_to_the_batch():
    given_inputs = {"x": torch.arange(6.0).reshape(2, 3), "scale": 3}
    made = with_batch(given_inputs, 4)
    assert made["x"].tolist() == [[0.0, 1.0, 2.0]] * 4
    assert made["scale"] == 3


# -- the search


@pytest.mark.parametrize("strategy", ["uniform", "global"])
@pytest.mark.parametrize("round_to", [1, 2])
def test_searches_meet_the_budget(strategy, round_to):
    model, graph = plain()
    timed, _ = built((model, graph), limits=Limits(round_to=round_to))
    budget = Budget("latency", 0.6)
    result = search(model, graph, SearchSettings(strategy, budget=budget, round_to=round_to), latency=timed)
    left = timed.fraction({name: len(groups) for name, groups in result.kept.items()})
    assert 0.35 < left <= 0.6
    assert all(len(groups) % round_to == 0 for groups in result.kept.values())


def test_a_search_is_not_resumed_with_other_times(tmp_path):
    model, graph = plain()
    ledger, chosen = tmp_path / "search.jsonl", SearchSettings("uniform", budget=HALF)
    timed, _ = built((model, graph))
    first = search(model, graph, chosen, latency=timed, ledger=ledger)
    assert search(model, graph, chosen, latency=timed, ledger=ledger, resume=True).kept == first.kept
    other, _ = built((model, graph), clock=Clock(0.2), machine={**HERE, "threads": 8})
    with pytest.raises(UsageError, match=r"belongs to a search with other settings \(latency was"):
        search(model, graph, chosen, latency=other, ledger=ledger, resume=True)


# -- the clock


def test_each_run_is_timed_in_every_round_and_modes_stay():
    class Counting(nn.Linear):
        calls = 0

        def forward(self, x):
            Counting.calls += 1
            assert not self.training
            return super().forward(x)

    model = Counting(3, 3).train()
    [seconds] = in_turns([Run("a", model, (torch.zeros(1, 3),))], rounds=4)
    assert seconds > 0
    assert model.training
    assert Counting.calls == 1 + 2 * (1 + 4)  # the first to warm up, and pairs


def test_when_the_time_is_up_few_rounds_must_do():
    calls = []
    model = nn.Identity()
    model.register_forward_hook(lambda *_: calls.append(1))
    in_turns([Run("a", model, (torch.zeros(1),))], rounds=1000, seconds=0.0)
    assert len(calls) == 1 + 2 * (1 + timing.LEAST_ROUNDS)  # the first to warm up, and pairs


def test_disturbed_samples_count_only_where_there_are_few_others():
    quiet, disturbed = timing._Sample(1.0, False), timing._Sample(9.0, True)
    assert timing._typical([quiet, disturbed, quiet, disturbed, disturbed, disturbed, quiet]) == 1.0
    assert timing._typical([disturbed, quiet, disturbed]) == 9.0


# -- the command


def test_the_command_measures_prunes_and_says_what_came_of_it(here, monkeypatch):
    monkeypatch.setattr(timing, "in_turns", Clock())
    result = app("prune", *MODEL, "--latency", "0.6", "--latency-table", "t.json", "-o", "out")
    assert result.exit_code == 0, result.stderr
    summary = json.loads((here / "out" / "summary.json").read_text())
    found = summary["latency"]
    assert found["target"] == 0.6
    assert found["predicted"] <= 0.6
    assert found["measured"] == pytest.approx(summary["macs"]["after"] / summary["macs"]["before"], abs=1e-3)
    assert "at most 60.0% asked for" in result.stdout
    plan = json.loads((here / "out" / "plan.json").read_text())["provenance"]
    assert (plan["latency"], plan["search"], plan["device"]) == (0.6, "uniform", "cpu")

    monkeypatch.setattr(timing, "in_turns", lambda *_: pytest.fail("a plan is not measured again"))
    applied = app("apply", "out/plan.json", *MODEL[:2], "-o", "again")
    assert applied.exit_code == 0, applied.stderr
    assert (here / "again" / "model.py").read_bytes() == (here / "out" / "model.py").read_bytes()


def test_a_miss_is_said():
    found = {"target": 0.5, "predicted": 0.5, "measured": 0.6, "device": "cpu", "batch": 1}
    assert "\nthat is 20 % more than asked for" in verdict_text(found)
    assert "\n" not in verdict_text({**found, "measured": 0.54})
