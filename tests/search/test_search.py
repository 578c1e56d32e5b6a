from __future__ import annotations

import contextlib
import errno
import itertools
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from hand_graphs import grouped, plain, slice_by_hand
from search_bench import IMAGES, Bench, Crash, crash_at, events, refusal, without_seconds

from secateur.pruners.costs import Budget, CostModel
from secateur.pruners.errors import BudgetError, CheckpointError, Interrupted, NotPrunableError, OutputError, UsageError
from secateur.pruners.graph import ChannelGraph, FrozenChannels
from secateur.pruners.metrics import rank
from secateur.pruners.places import Site
from secateur.pruners.run import StopRequest
from secateur.pruners.search import SEARCHES, Ledger, SearchSettings, Watcher, search
from secateur.pruners.search.gaussian_process import derived_seed, random_ratios, suggest_ratios
from secateur.pruners.search.scatter import scatter, zero_removed
from secateur.pruners.weight_transfer import slice_state

QUICK = {"init_points": 1, "n_iter": 1, "retrain_epochs": 1}


# -- refusals


def test_an_unknown_strategy_is_refused_with_the_closest_name():
    assert refusal(UsageError, Bench().search, SearchSettings("baysian")) == (
        "unknown search 'baysian', did you mean 'bayesian'? known are bayesian, global, sensitivity, uniform"
    )


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"alpha": -1.0}, "alpha -1.0: must be a number that is 0 or more"),
        ({"alpha": float("nan")}, "alpha nan: must be a number that is 0 or more"),
        ({"direction": "sideways"}, "direction 'sideways': must be bottom-up or top-down"),
        ({"mode": "zero"}, "mode 'zero': must be prune or zeroOut"),
        ({"max_pruning": 1.0}, "max-pruning 1.0: must be between 0 and 1, both excluded"),
        ({"n_iter": -1}, "n-iter -1: must be 0 or more"),
        ({"retrain_epochs": -5}, "retrain-epochs -5: must be 0 or more"),
        ({"per": "block"}, "per 'block': must be layer or stage"),
    ],
)
def test_settings_out_of_range_are_refused(changed, message):
    assert refusal(UsageError, SearchSettings, **changed) == message


@pytest.mark.parametrize("name", ["uniform", "global"])
def test_a_strategy_that_needs_a_budget_says_so(name):
    assert refusal(BudgetError, Bench().search, SearchSettings(name)) == (
        f"--search {name} needs a budget: give --macs, --params, --latency or --ratio"
    )


def test_bayesian_search_without_data_is_refused():
    assert refusal(UsageError, Bench().search, evaluate=None) == (
        "--search bayesian evaluates candidates; give --data or --score, or take --search uniform or global"
    )


@pytest.mark.parametrize("name", SEARCHES.names())
def test_a_budget_out_of_reach_is_refused_before_anything_is_evaluated(name):
    bench = Bench()
    assert "can't be reached" in refusal(BudgetError, bench.search, SearchSettings(name, budget=Budget("macs", 0.001)))
    assert not bench.evaluated


def test_a_network_with_nothing_to_prune_is_refused_with_the_reason():
    model, graph = plain()
    frozen = FrozenChannels((), 8, "an output of the network", Site("net.py", 7))
    empty = ChannelGraph((), (frozen,), graph.shapes, graph.contractions, graph.network)
    assert refusal(NotPrunableError, search, model, empty) == (
        "there is nothing to prune: no channels may go: an output of the network (net.py:7)"
    )


def test_a_network_whose_channels_all_go_together_is_refused_with_a_width():
    model, graph = plain()
    first = graph.widths[0]
    alone = replace(first, size=1, block_of=first.block_of[:1], n_blocks=1, uses=())
    assert refusal(NotPrunableError, search, model, replace(graph, widths=(alone,))) == (
        f"there is nothing to prune: all channels of {first.name} can only go together, and so it is with every other "
        f"width; secateur inspect --why {first.name} says why"
    )


@pytest.mark.parametrize("name", SEARCHES.names())
@pytest.mark.parametrize("limits", [{"min_channels": 64}, {"round_to": 512}], ids=["too many kept", "no such multiple"])
def test_limits_that_keep_every_channel_are_refused_before_anything_is_evaluated(name, limits):
    bench = Bench()
    said = refusal(NotPrunableError, bench.search, SearchSettings(name, budget=Budget("ratio", 0.5), **limits))
    assert said.startswith("there is nothing to prune: the largest width, ") and said.endswith("give smaller ones")
    assert not bench.evaluated


def test_a_network_whose_loss_is_not_finite_is_refused():
    assert refusal(UsageError, Bench().search, evaluate=lambda model: (float("nan"), 0.0)).startswith(
        "the network's loss is not finite before 'conv1' is pruned"
    )


def test_retraining_that_diverges_is_refused():
    def explode(model, epochs):
        model.fc.weight.data.fill_(float("inf"))

    assert refusal(CheckpointError, Bench(loss_scale=0.0).search, SearchSettings(**QUICK), retrain=explode).startswith(
        "retraining after pruning 'conv1' ended with NaN or infinite weights"
    )


# -- ledgers that don't fit


def test_an_existing_ledger_is_not_overwritten(tmp_path):
    path = tmp_path / "search.jsonl"
    Bench().search(SearchSettings(**QUICK), ledger=path)
    before = path.read_bytes()
    assert refusal(UsageError, Bench().search, SearchSettings(**QUICK), ledger=path) == (
        f"{path} already holds a search; continue it with --resume or remove the file"
    )
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "settings, others, reason",
    [
        ({"alpha": 2.0}, {}, "(alpha was 1.0, now 2.0)"),
        ({"budget": Budget("macs", 0.5)}, {}, '(budget was null, now {"kind": "macs", "value": 0.5})'),
        ({}, {"fingerprint": {"data": "mnist"}}, '(data was null, now "mnist")'),
        ({}, {"retrain": None}, "(retraining was true, now false)"),
    ],
)
def test_a_ledger_of_other_settings_is_refused_with_the_difference(tmp_path, settings, others, reason):
    path = tmp_path / "search.jsonl"
    Bench().search(SearchSettings(**QUICK), ledger=path)
    message = refusal(
        UsageError, Bench().search, SearchSettings(**{**QUICK, **settings}), ledger=path, resume=True, **others
    )
    assert message == (
        f"{path}: belongs to a search with other settings {reason}; "
        "use the same settings or start anew without --resume"
    )


def test_a_ledger_of_other_weights_is_refused(tmp_path):
    path = tmp_path / "search.jsonl"
    Bench().search(SearchSettings(**QUICK), ledger=path)
    other = Bench(plain(seed=1))
    assert "(weights was" in refusal(UsageError, other.search, SearchSettings(**QUICK), ledger=path, resume=True)


def test_a_damaged_ledger_is_refused(tmp_path):
    path = tmp_path / "search.jsonl"
    Bench().search(SearchSettings(**QUICK), ledger=path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], lines[2][:20] + "\n", *lines[3:]]))
    resume = {"ledger": path, "resume": True}
    assert refusal(UsageError, Bench().search, SearchSettings(**QUICK), **resume) == (
        f"{path}, line 3: not a search event; start the search anew without --resume"
    )
    path.write_text("".join([*lines[:2], *lines[3:]]))
    assert "where this version expects" in refusal(UsageError, Bench().search, SearchSettings(**QUICK), **resume)
    path.write_text('{"some": "other file"}\n')
    assert "does not begin like a search" in refusal(UsageError, Bench().search, SearchSettings(**QUICK), **resume)


def test_a_folder_in_place_of_the_ledger_is_refused(tmp_path):
    assert refusal(UsageError, Bench().search, SearchSettings(**QUICK), ledger=tmp_path) == (
        f"{tmp_path}: can't be read (Is a directory)"
    )


def test_a_ledger_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "search.jsonl"
    with pytest.raises((OutputError, UsageError)):
        Bench().search(SearchSettings(**QUICK), ledger=path)


def test_a_full_disk_ends_the_search_which_can_go_on_later(tmp_path, uninterrupted, monkeypatch):
    path = tmp_path / "search.jsonl"
    for target, failing in [("os.fsync", 2), ("os.fsync", 1), ("torch.save", 0), ("torch.save", 1)]:
        left, real = itertools.count(failing, -1), {"os.fsync": os.fsync, "torch.save": torch.save}[target]

        def full(*args, left=left, real=real):
            if next(left) == 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*args)

        with monkeypatch.context() as patch:
            patch.setattr(target, full)
            message = refusal(OutputError, Bench().search, SETTINGS, ledger=path, resume=True)
        assert message.endswith("can't be written (No space left on device); make room and use --resume")
        assert not list(tmp_path.glob("*.tmp"))
    check_same_end(path, uninterrupted)


# -- uniform and global


@pytest.mark.parametrize("build", [plain, grouped])
@pytest.mark.parametrize("name", ["uniform", "global"])
@pytest.mark.parametrize("budget", [Budget("macs", 0.6), Budget("params", 0.6), Budget("ratio", 0.4)])
def test_budgets_are_met_and_plans_are_valid(build, name, budget, tmp_path):
    bench = Bench(build())
    result = bench.search(SearchSettings(name, budget=budget), ledger=tmp_path / "search.jsonl")
    plan = result.plan(bench.graph, {"seed": 0})
    assert dict(result.kept) == plan.kept
    assert result.after == CostModel.of(bench.model, bench.graph).predict(result.kept)
    if budget.kind != "ratio":
        assert result.after.relative_to(result.before)[budget.kind] <= 0.6
    assert not bench.evaluated
    again = bench.search(SearchSettings(name, budget=budget), ledger=tmp_path / "search.jsonl", resume=True)
    assert again == result


def test_uniform_keeps_the_channels_the_ranking_likes():
    bench = Bench()
    result = bench.search(SearchSettings("uniform", metric="l2", budget=Budget("ratio", 0.5)))
    ranking = rank(bench.model, bench.graph, "l2")
    assert result.kept == {"conv1": ranking.keep("conv1", 4), "conv2": ranking.keep("conv2", 3)}


def test_remarks_of_the_metric_are_handed_on(caplog):
    result = Bench().search(SearchSettings("uniform", metric="bn_scale", budget=Budget("ratio", 0.5)))
    assert result.notes == ("bn_scale: no norm layer on conv2, ranked there by l1",)
    assert caplog.messages == list(result.notes)


def test_global_keeps_a_tenth_of_every_width():
    bench = Bench()
    with torch.no_grad():
        bench.model.conv1.weight[1:] *= 1e-6
        bench.model.conv2.weight[:, 1:] *= 1e-6
    result = bench.search(SearchSettings("global", budget=Budget("ratio", 0.4)))
    assert len(result.kept["conv1"]) == 2
    kept = bench.search(SearchSettings("global", min_fraction=0.5, budget=Budget("ratio", 0.4))).kept
    assert len(kept["conv1"]) == 4


# -- the pieces of the bayesian search


@pytest.mark.parametrize("axes", [1, 4])
def test_suggestions_are_a_function_of_the_points(axes):
    values = [(0.0, -1.0), (0.2, -0.8), (0.4, -1.5), (0.2, -0.8)]
    points = [((ratio,) * axes, objective) for ratio, objective in values]
    first = suggest_ratios(points, 0.4, seed=3)
    assert len(first) == axes and all(0 <= ratio <= 0.4 for ratio in first)
    assert suggest_ratios(points, 0.4, seed=3) == first
    assert random_ratios(axes, 0.4, 1) == random_ratios(axes, 0.4, 1) != random_ratios(axes, 0.4, 2)
    assert derived_seed(0, "a", 1) != derived_seed(0, "a", 2)


def test_suggestions_survive_flat_objectives():
    (ratio,) = suggest_ratios([((0.0,), -1.0), ((0.2,), -1.0), ((0.4,), -1.0)], 0.4, seed=0)
    assert 0 <= ratio <= 0.4


@pytest.mark.parametrize("build", [plain, grouped])
def test_scattering_is_the_inverse_of_slicing(build):
    model, graph = build()
    kept = rank(model, graph, "random", seed=1)
    kept = {w.name: kept.keep(w, w.size // 2 // w.n_blocks * w.n_blocks or w.n_blocks) for w in graph.widths}
    small = slice_by_hand(model, graph, kept)
    whole = model.state_dict()
    back = scatter(whole, small.state_dict(), graph, kept)
    assert all(torch.equal(back[n], whole[n]) for n in whole)
    marked = {n: torch.full_like(t, 7) for n, t in small.state_dict().items()}
    back = scatter(whole, marked, graph, kept)
    assert all(int((back[n] == 7).sum()) == t.numel() for n, t in marked.items())
    model.load_state_dict(back)
    for name, tensor in slice_by_hand(model, graph, kept).state_dict().items():
        assert torch.equal(tensor, marked[name])


@pytest.mark.parametrize(
    "built, kept",
    [
        (plain(), {"conv1": (0, 4, 7), "conv2": (1, 5)}),
        (grouped(), {"conv1": (0, 4, 7, 9), "conv2": (0, 3, 4, 7)}),
    ],
    ids=["plain", "grouped"],
)
def test_zeroing_is_removing(built, kept):
    model, graph = built
    small = slice_by_hand(model, graph, kept)
    model.load_state_dict(zero_removed(model.state_dict(), graph, kept))
    torch.testing.assert_close(model(IMAGES), small(IMAGES))


# -- the bayesian search


def test_every_width_gets_thirteen_evaluations_and_its_best():
    bench = Bench()
    result = bench.search(SearchSettings(max_pruning=0.9, min_channels=1))
    groups = {name: list(g) for name, g in itertools.groupby(result.evaluations, lambda e: e.width)}
    assert list(groups) == ["conv1", "conv2"]
    for name, records in groups.items():
        assert [r.ratio for r in records[:3]] == [0, 0.45, 0.9]
        assert len(records) <= 13
        best = max(records, key=lambda r: r.objective)
        assert result.best[name].objective == best.objective == records[-1].best
        for i, record in enumerate(records):
            assert record.is_best == all(record.objective > earlier.objective for earlier in records[:i])
            assert record.removed + record.kept == bench.graph.width(name).size
            assert record.loss is not None
            assert record.objective == pytest.approx(-(record.loss + record.params + record.bits / 4))
    assert result.evaluations[-1].total == 26
    assert result.evaluations[-1].done == 26
    assert all(a.done < b.done for a, b in itertools.pairwise(result.evaluations))


def test_costs_count_the_whole_network_with_earlier_decisions():
    bench = Bench(loss_scale=0.0)
    result = bench.search(SearchSettings(**QUICK))
    costs = CostModel.of(bench.model, bench.graph)
    for record in result.evaluations:
        counts = {record.width: record.kept}
        if record.width == "conv2":
            counts["conv1"] = len(result.kept["conv1"])
        expected = costs.count(counts).relative_to(result.before)
        assert (record.params, record.macs, record.bits) == (expected["params"], expected["macs"], expected["bits"])


def test_known_counts_are_answered_from_memory():
    bench = Bench()
    result = bench.search(SearchSettings(), retrain=None)
    fresh = [e for e in result.evaluations if not e.cached]
    assert len(bench.evaluated) == len(fresh) < len(result.evaluations)
    by_count = {}
    for record in result.evaluations:
        key = (record.width, record.kept)
        assert by_count.setdefault(key, record.loss) == record.loss
    # the second width starts from the first one's best, which has been measured
    assert next(e for e in result.evaluations if e.width == "conv2").cached


def test_a_width_ends_early_when_every_count_is_known():
    result = Bench().search(SearchSettings(max_pruning=0.2), retrain=None)
    counts = {"conv1": {8, 7, 6}, "conv2": {6, 5}}
    for name, expected in counts.items():
        assert {e.kept for e in result.evaluations if e.width == name} == expected
    assert len(result.evaluations) < 26
    assert result.evaluations[-1].done == 26


def test_what_is_worth_little_stays_whole_and_is_not_retrained():
    bench = Bench(loss_scale=1e6)
    result = bench.search(SearchSettings())
    assert not bench.retrained
    assert result.state is None
    assert all(len(result.kept[w.name]) == w.size for w in bench.graph.widths)


def test_a_width_that_lost_less_than_the_threshold_is_pruned_but_not_retrained():
    bench = Bench(loss_scale=0.0)
    result = bench.search(SearchSettings(considerable=0.5, **QUICK))
    assert result.best["conv1"].kept == len(result.kept["conv1"]) < 8
    assert not bench.retrained


def test_pruned_widths_are_retrained_in_their_new_size():
    bench = Bench(loss_scale=0.0)
    before = {n: t.clone() for n, t in bench.model.state_dict().items()}
    result = bench.search(SearchSettings(retrain_epochs=3))
    assert [epochs for _, epochs in bench.retrained] == [3, 3]
    assert [m.conv1.out_channels for m, _ in bench.retrained] == [5, 5]
    assert [m.conv2.out_channels for m, _ in bench.retrained] == [6, 4]
    assert all(torch.equal(t, before[n]) for n, t in bench.model.state_dict().items())
    # what comes back in the state is what the last retraining left
    bench.model.load_state_dict(result.state)
    for name, tensor in slice_by_hand(bench.model, bench.graph, result.kept).state_dict().items():
        assert torch.equal(tensor, bench.retrained[-1][0].state_dict()[name])


def test_the_whole_network_with_zeros_learns_what_the_slice_learns():
    results, benches = {}, {}
    for mode in ("prune", "zeroOut"):
        bench = benches[mode] = Bench()
        results[mode] = bench.search(SearchSettings(retrain_epochs=3, mode=mode))
    assert results["prune"].kept == results["zeroOut"].kept
    assert [m.conv1.out_channels for m, _ in benches["zeroOut"].retrained] == [8, 8]
    states = [slice_state(r.state, bench.graph, r.kept) for r in results.values()]
    for name, tensor in states[0].items():
        torch.testing.assert_close(tensor, states[1][name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("direction, order", [("bottom-up", ["conv1", "conv2"]), ("top-down", ["conv2", "conv1"])])
def test_the_direction_decides_where_to_begin(direction, order):
    result = Bench().search(SearchSettings(direction=direction, **QUICK))
    assert list(dict.fromkeys(e.width for e in result.evaluations)) == order


def test_a_loss_that_is_not_finite_loses(tmp_path):
    bench = Bench()

    def fragile(model):
        return (float("nan"), 0.0) if model.conv1.out_channels < 7 else bench.evaluate(model)

    result = bench.search(SearchSettings(**QUICK), evaluate=fragile, ledger=tmp_path / "search.jsonl")
    assert len(result.kept["conv1"]) >= 7
    lost = [e for e in result.evaluations if e.loss is None]
    assert lost
    assert all(np.isfinite(e.objective) for e in result.evaluations)
    assert "NaN" not in (tmp_path / "search.jsonl").read_text()


@pytest.mark.parametrize("scale", [0.0, 1e6], ids=["when the search cuts too much", "when it cuts too little"])
@pytest.mark.parametrize("budget", [Budget("macs", 0.7), Budget("params", 0.7), Budget("ratio", 0.2)])
def test_with_a_budget_the_search_ends_at_the_budget(scale, budget):
    bench = Bench(loss_scale=scale)
    result = bench.search(SearchSettings(budget=budget, **QUICK))
    result.plan(bench.graph)
    left = sum(map(len, result.kept.values())) / 14
    if budget.kind != "ratio":
        left = result.after.relative_to(result.before)[budget.kind]
    assert budget.limit - 0.15 < left <= budget.limit + 1e-9


def test_grouped_networks_keep_equal_groups():
    bench = Bench(grouped(), loss_scale=0.0)
    result = bench.search(SearchSettings(max_pruning=0.7, **QUICK))
    result.plan(bench.graph)
    assert len(result.kept["conv1"]) == 4
    assert bench.retrained


def test_the_watcher_hears_everything():
    heard = []

    class Listener(Watcher):
        def on_evaluation(self, record):
            heard.append(("evaluation", record.width))

        def on_decision(self, width, size, kept):
            heard.append(("decision", width, size, kept))

        def on_retrain(self, width, epochs):
            heard.append(("retrain", width, epochs))

    result = Bench(loss_scale=0.0).search(SearchSettings(**QUICK), watcher=Listener())
    assert [h for h in heard if h[0] != "evaluation"] == [
        ("decision", "conv1", 8, 5), ("retrain", "conv1", 1), ("decision", "conv2", 6, 4), ("retrain", "conv2", 1),
    ]  # fmt: skip
    assert [h[1] for h in heard if h[0] == "evaluation"] == [e.width for e in result.evaluations]


# -- resuming


SETTINGS = SearchSettings(init_points=1, n_iter=2, retrain_epochs=1, alpha=0.05, budget=Budget("macs", 0.6))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "search.jsonl"
    bench = Bench()
    result = bench.search(SETTINGS, ledger=path)
    assert bench.retrained
    return result, events(path)


@pytest.mark.parametrize("after", range(10))
@pytest.mark.parametrize("what", ["evaluate", "retrain"])
def test_a_search_that_crashed_resumes_to_the_same_end(tmp_path, uninterrupted, what, after):
    path = tmp_path / "search.jsonl"
    bench = Bench()
    try:
        bench.search(SETTINGS, ledger=path, **{what: crash_at(getattr(bench, what), bench, after)})
    except Crash:
        with path.open("a") as file:
            file.write('{"event": "evaluation", "width": "con')  # a torn line
    torch.manual_seed(after)
    check_same_end(path, uninterrupted)


@pytest.mark.parametrize("line", range(0, 15, 2))
def test_a_crash_before_any_line_resumes_to_the_same_end(tmp_path, uninterrupted, line, monkeypatch):
    path = tmp_path / "search.jsonl"
    append, left = Ledger.append, itertools.count(line, -1)

    def crashing(*args):
        if next(left) == 0:
            raise Crash
        append(*args)

    with monkeypatch.context() as patch, contextlib.suppress(Crash):
        patch.setattr(Ledger, "append", crashing)
        Bench().search(SETTINGS, ledger=path)
    check_same_end(path, uninterrupted)


def check_same_end(path, uninterrupted):
    expected, expected_events = uninterrupted
    result = Bench().search(SETTINGS, ledger=path, resume=True)
    assert result.kept == expected.kept
    assert without_seconds(result) == without_seconds(expected)
    assert events(path) == expected_events
    assert all(torch.equal(result.state[n], t) for n, t in expected.state.items())
    assert len(list(path.parent.glob("*.pth"))) == 1


def test_a_finished_search_replays_without_any_work(tmp_path, uninterrupted):
    path = tmp_path / "search.jsonl"
    Bench().search(SETTINGS, ledger=path)
    bench = Bench()
    result = bench.search(SETTINGS, ledger=path, resume=True)
    assert result.kept == uninterrupted[0].kept
    assert not bench.evaluated
    assert not bench.retrained


def test_ctrl_c_finishes_the_evaluation_and_can_be_resumed(tmp_path, uninterrupted):
    path = tmp_path / "search.jsonl"
    bench = Bench()
    calls = itertools.count(1)

    def press(model):
        if next(calls) == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return bench.evaluate(model)

    before = signal.getsignal(signal.SIGINT)
    assert refusal(Interrupted, bench.search, SETTINGS, ledger=path, evaluate=press) == (
        "search interrupted after 6 of 12 evaluations; continue with --resume"
    )
    assert signal.getsignal(signal.SIGINT) is before
    assert len(bench.evaluated) == 4
    check_same_end(path, uninterrupted)


@pytest.mark.parametrize("trainer_listens", [False, True])
def test_ctrl_c_during_retraining_stops_the_search_as_well(tmp_path, uninterrupted, trainer_listens):
    path = tmp_path / "search.jsonl"

    def press(model, epochs):
        if trainer_listens:
            raise Interrupted("training stopped after epoch 1")
        os.kill(os.getpid(), signal.SIGINT)

    message = refusal(Interrupted, Bench().search, SETTINGS, ledger=path, retrain=press)
    assert message.startswith("search interrupted after 6 of 12 evaluations")
    check_same_end(path, uninterrupted)


def test_ctrl_c_twice_stops_at_once():
    stop = StopRequest()
    with stop.listening():
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_missing_or_changed_weights_stop_a_resume(tmp_path):
    path = tmp_path / "search.jsonl"
    Bench(loss_scale=0.0).search(SearchSettings(**QUICK), ledger=path)
    (weights,) = tmp_path.glob("*.pth")
    message = f"{weights}: missing or changed, the search can't go on; start anew without --resume"
    resume = {"ledger": path, "resume": True}
    state = torch.load(weights, weights_only=True)
    torch.save({**state, "fc.bias": state["fc.bias"] + 1}, weights)
    assert refusal(CheckpointError, Bench().search, SearchSettings(**QUICK), **resume) == message
    weights.write_bytes(b"torn")
    assert refusal(CheckpointError, Bench().search, SearchSettings(**QUICK), **resume) == message
    weights.unlink()
    assert refusal(CheckpointError, Bench().search, SearchSettings(**QUICK), **resume) == message


def test_a_ledger_with_a_torn_first_line_starts_anew(tmp_path):
    path = tmp_path / "search.jsonl"
    path.write_text('{"event": "sea')
    Bench().search(SearchSettings(**QUICK), ledger=path)
    assert events(path)[0]["event"] == "search"


def test_random_generators_are_left_as_they_were():
    bench = Bench(loss_scale=0.0)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    bench.search(SearchSettings(**QUICK))
    assert torch.equal(torch.rand(3), expected)
