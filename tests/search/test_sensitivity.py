from __future__ import annotations

import itertools

import pytest
import torch
from hand_graphs import grouped, plain, slice_by_hand
from hypothesis import given
from hypothesis import strategies as st
from judged_search import judged_search
from torch import nn

from secateur.pruners.costs import Allowance, Budget, CostModel, Limits
from secateur.pruners.errors import BudgetError, Interrupted, UsageError
from secateur.pruners.metrics import rank
from secateur.pruners.search import Ledger, SearchSettings, Watcher
from secateur.pruners.search.bench import Bench, Evaluator, Found
from secateur.pruners.search.damage import Curve, Difference, Reference, curve_through
from secateur.pruners.search.problem import Problem
from secateur.pruners.search.sensitivity import marginal_counts, probed_counts
from secateur.pruners.search.stage_balance import Balance, attempts

IMAGES = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
BATCHES = [(images, torch.zeros(len(images), dtype=torch.long)) for images in IMAGES.split(4)]
HALF = SearchSettings("sensitivity", budget=Budget("macs", 0.5))


def run(built=None, settings: SearchSettings = HALF, **changed):
    model, graph = built or plain()
    given = {"realize": lambda m, kept: slice_by_hand(m, graph, kept), "batches": BATCHES}
    return judged_search(model, graph, settings, **{**given, **changed})


# -- refusals


def test_without_a_budget_it_is_refused():
    with pytest.raises(BudgetError, match="--search sensitivity needs a budget: give --macs"):
        run(settings=SearchSettings("sensitivity"))


@pytest.mark.parametrize("missing", ["batches", "realize"])
def test_without_images_it_is_refused(missing):
    with pytest.raises(UsageError, match="looks at images; give --data, or take --search uniform"):
        run(**{missing: None})


def test_a_budget_out_of_reach_is_refused_with_the_least():
    with pytest.raises(BudgetError, match=r"--macs 0.0001: can't be reached.*ask for at least 0\.\d+"):
        run(settings=SearchSettings("sensitivity", budget=Budget("macs", 0.0001)))


def test_a_network_without_finite_outputs_is_refused():
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 5))
    model[1].weight.data.fill_(float("inf"))
    with pytest.raises(UsageError, match="outputs are not finite before anything is pruned"):
        Reference(model, BATCHES)


def test_a_network_without_numbers_in_its_output_is_refused():
    class Positions(nn.Module):
        def forward(self, x):
            return {"best": x.flatten(1).argmax(1)}

    with pytest.raises(UsageError, match="Positions gives no tensors of numbers"):
        Reference(Positions(), BATCHES)


# -- comparing outputs


class Gives(nn.Module):
    def __init__(self, *outputs) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, x):
        return self.outputs[0] if len(self.outputs) == 1 else self.outputs


def test_the_damage_of_classes_is_the_divergence_by_hand():
    wanted = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    got = torch.tensor([[0.0, 1.0], [0.0, 3.0]])
    found = Reference(Gives(wanted), [IMAGES[:2]]).compare(Gives(got))
    p, q = wanted.double().softmax(1), got.double().softmax(1)
    assert found.damage == pytest.approx(float((p * (p / q).log()).sum(1).mean()))
    assert found.agreement == 0.5


def test_the_damage_of_other_outputs_is_relative_to_their_spread():
    wanted = (torch.tensor([[[1.0]], [[3.0]]]), torch.tensor([[0.0], [4.0]]))
    got = (torch.tensor([[[2.0]], [[3.0]]]), torch.tensor([[0.0], [4.0]]))
    found = Reference(Gives(*wanted), [IMAGES[:2]]).compare(Gives(*got))
    assert found.damage == pytest.approx(1 / (2 + 8))
    assert found.agreement is None


def test_outputs_that_are_not_finite_are_infinitely_far():
    nan = torch.tensor([[float("nan"), 0.0]])
    assert Reference(Gives(torch.zeros(1, 2)), [IMAGES[:1]]).compare(Gives(nan)).damage == float("inf")


def test_comparing_leaves_the_modes_as_they_were():
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(48, 5)).train()
    assert Reference(model, BATCHES).compare(model).damage == pytest.approx(0, abs=1e-12)
    assert model.training
    assert model[1].training


# -- curves


def test_a_curve_is_the_convex_hull_and_never_falls():
    curve = curve_through([(2, 1.0), (4, 0.5), (6, 9.0)])
    assert curve == Curve((0, 4, 6), (0.0, 1.0, 9.0))
    assert [curve.at(n) for n in (0, 2, 4, 5, 6)] == [0.0, 0.5, 1.0, 5.0, 9.0]


def test_infinite_damage_counts_as_very_large():
    assert curve_through([(1, 0.5), (2, float("inf"))]).at(2) == 5.0


@given(st.lists(st.tuples(st.integers(1, 40), st.floats(0, 100)), min_size=1, unique_by=lambda p: p[0]))
def test_curves_are_increasing_convex_and_not_above_the_highest_so_far(points):
    curve = curve_through(points)
    values = [curve.at(n) for n in range(max(n for n, _ in points) + 1)]
    steps = [b - a for a, b in itertools.pairwise(values)]
    assert all(step >= -1e-9 for step in steps)
    assert all(b >= a - 1e-9 for a, b in itertools.pairwise(steps))
    for removed, _ in points:
        assert values[removed] <= max(d for n, d in points if n <= removed) + 1e-9


def test_probes_go_down_to_the_least_count_and_are_allowed():
    assert probed_counts(tuple(range(2, 17))) == (12, 8, 4, 2)
    assert probed_counts((8, 16)) == (8,)
    assert probed_counts((16,)) == ()


# -- allocation


def allowance_of(built, value=0.5, kind="macs", **limits):
    model, graph = built
    return Allowance(graph, CostModel.of(model, graph), Limits(**limits), Budget(kind, value))


def test_the_width_that_does_not_matter_goes_first():
    allowance = allowance_of(plain(), 0.7)
    names = list(allowance.sizes)
    curves = {n: curve_through([(size - 2, 0.0 if n == names[0] else 5.0)]) for n, size in allowance.sizes.items()}
    counts = marginal_counts(allowance, curves)
    assert counts[names[0]] < allowance.sizes[names[0]]
    assert all(counts[n] == allowance.sizes[n] for n in names[1:])


def test_a_width_that_saves_time_in_stairs_only_is_not_passed_over():
    """Eight channels of the first width take as long as five; the other one saves with every channel, but it hurts."""
    model, graph = plain()
    costs = CostModel.of(model, graph)
    first, second = (w.name for w in graph.widths)

    def time(counts):
        return (0.5 if counts[first] > 4 else 0.1) + 0.5 * counts[second] / 6

    allowance = Allowance(graph, costs, Limits(), Budget("latency", 0.65), time)
    curves = {first: curve_through([(6, 0.1)]), second: curve_through([(4, 5.0)])}
    assert marginal_counts(allowance, curves) == {first: 4, second: 6}


@pytest.mark.parametrize("kind", ["macs", "params", "ratio"])
@given(data=st.data(), value=st.floats(0.35, 0.95), round_to=st.sampled_from([1, 2, 4]))
def test_counts_meet_the_budget_and_no_step_fits_any_more(kind, data, value, round_to):
    built = data.draw(st.sampled_from([plain, grouped]))()
    allowance = allowance_of(built, value if kind != "ratio" else 1 - value, kind, round_to=round_to)
    if not allowance.meets(allowance.smallest()):
        return
    damages = st.floats(0, 10)
    curves = {n: curve_through([(size - 2, data.draw(damages))]) for n, size in allowance.sizes.items()}
    counts = marginal_counts(allowance, curves)
    assert allowance.meets(counts)
    for name, allowed in allowance.levels.items():
        assert counts[name] in allowed
        larger = [n for n in allowed if n > counts[name]]
        assert not larger or not allowance.meets({**counts, name: larger[0]})


# -- the strategy


def test_it_probes_each_width_alone_and_meets_the_budget():
    realized = []
    model, graph = plain()

    def realize(m, kept):
        realized.append(dict(kept))
        return slice_by_hand(m, graph, kept)

    result = run((model, graph), realize=realize)
    probes = [kept for kept in realized if len(kept) == 1]
    assert {name for kept in probes for name in kept} == {w.name for w in graph.widths}
    assert realized[: len(probes)] == probes  # whole candidates come after them
    assert len(result.evaluations) == len(realized)
    assert result.evaluations[-1].done <= result.evaluations[-1].total
    assert result.after.macs <= 0.5 * result.before.macs
    assert all(e.loss >= 0 and 0 <= e.accuracy <= 1 for e in result.evaluations)


def test_finished_candidates_are_probed_where_there_are_some():
    model, graph = plain()
    finished = []

    def finish(m, kept):
        finished.append(kept)
        return slice_by_hand(m, graph, kept)

    run((model, graph), realize=lambda m, kept: pytest.fail("not this one"), finish=finish)
    assert {len(kept) for kept in finished} == {1, len(graph.widths)}
    quick = []
    finished.clear()
    run((model, graph), finish=finish, probe=lambda m, kept: quick.append(kept) or slice_by_hand(m, graph, kept))
    assert {len(kept) for kept in quick} == {1}
    assert {len(kept) for kept in finished} == {len(graph.widths)}


class Judged(Bench):
    """Candidates are as bad as ``damage`` says of their counts."""

    def __init__(self, damage):
        self.damage = damage

    def result(self, candidate):
        found = torch.tensor(self.damage(*map(len, candidate.kept.values())), dtype=torch.float64).expand(4)
        return Found(Difference(float(found.mean()), None, found), 0.0)


def balanced(damage, record=lambda e: None):
    """What ``Balance`` ends with for two widths, one a stage, that start with equal shares of a budget of 12 channels,
    where a candidate does the damage ``damage(counts)``."""
    model, graph = plain()
    names = [w.name for w in graph.widths]
    problem = Problem(
        model, graph, HALF, CostModel.of(model, graph), allowance_of((model, graph)), Ledger(None, {}, False),
        Evaluator(model), Judged(damage),
    )  # fmt: skip

    def allocate(weights):
        first, second = (weights[n] for n in names)
        share = round(6 * (first / second) ** 0.5)
        return {names[0]: max(2, min(8, share)), names[1]: max(2, min(6, 12 - share))}

    ranking = rank(model, graph, "l1")

    return tuple(Balance(problem, ranking, allocate, 0, attempts(problem), record).run().values())


def test_what_probes_can_not_tell_is_set_right_on_whole_candidates():
    records = []
    assert balanced(lambda first, second: abs(first - 8)) == (8, 4)
    assert balanced(lambda first, second: first, records.append) == (3, 6)
    assert balanced(lambda first, second: 1.0) == (6, 6)  # no better, no change
    assert [r.width for r in records] == ["all stages"] * len(records)
    assert [r.done for r in records] == sorted(r.done for r in records)
    assert records[-1].done <= records[-1].total == 5


def test_what_is_better_by_chance_is_no_better():
    assert balanced(lambda first, second: (1.0, 1.0, 1.0, 1.0) if first == 6 else (0.1, 0.2, 0.1, 0.3)) != (6, 6)
    assert balanced(lambda first, second: (1.0, 1.0, 1.0, 1.0) if first == 6 else (0.0, 1.2, 1.0, 0.9)) == (6, 6)


def test_candidates_that_fall_apart_are_no_better():
    assert balanced(lambda first, second: float("inf") if first != 6 else 1.0) == (6, 6)
    assert balanced(lambda first, second: float("inf") if first == 6 else 1.0) != (6, 6)


def test_it_needs_no_labels():
    assert run(batches=[(images, None) for images, _ in BATCHES]).kept == run().kept


@pytest.mark.parametrize("at", [3, 7], ids=["among the probes", "among whole candidates"])
def test_an_interrupted_pass_goes_on(tmp_path, at):
    class Impatient(Watcher):
        seen = 0

        def on_evaluation(self, record):
            self.seen += 1
            if self.seen == at:
                import signal

                signal.raise_signal(signal.SIGINT)

    ledger = tmp_path / "search.jsonl"
    whole = run()
    with pytest.raises(Interrupted, match=rf"after {at} of \d+ evaluations; continue with --resume"):
        run(ledger=ledger, watcher=Impatient())
    resumed = run(ledger=ledger, resume=True)
    assert resumed.kept == whole.kept
    assert [e.loss for e in resumed.evaluations] == [e.loss for e in whole.evaluations]


def test_candidates_are_finished_with_the_weights_of_the_transfer():
    from secateur.pruners.trace.trace import trace
    from secateur.pruners.transfer import TransferImages, TransferJob

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 5)).eval()
    graph = trace(model, IMAGES[:1])
    [width] = graph.widths
    model[0].weight.data[4:] = model[0].weight.data[:4]  # half of the channels say nothing new
    model[0].bias.data[4:] = model[0].bias.data[:4]

    def realize(network, kept):
        from secateur.pruners.slicing import slice_model

        return slice_model(network, graph, kept, IMAGES[:1]).model

    images = torch.randn(64, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    finish = TransferJob("lstsq", model, graph, realize, TransferImages(lambda: images.split(32))).finish
    reference = Reference(model, BATCHES)
    kept = {width.name: (0, 1, 2, 3)}
    assert reference.compare(finish(model, kept)).damage < 1e-3 * reference.compare(realize(model, kept)).damage
