from __future__ import annotations

import itertools
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hand_graphs import graph_of, grouped, use, width
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from secateur.models import registry
from secateur.pruners.costs import (
    Allowance,
    Budget,
    CostModel,
    Limits,
    Step,
    give_back,
    global_counts,
    grow,
    shrink,
    uniform_counts,
)
from secateur.pruners.costs.budget import levels
from secateur.pruners.errors import BudgetError, UsageError
from secateur.pruners.metrics import rank
from secateur.pruners.search.one_ratio import steps
from secateur.pruners.trace.trace import trace


def refusal(call, *args, **kwargs) -> str:
    with pytest.raises(UsageError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


@pytest.mark.parametrize("value", [0, 1, 1.5, -1, float("nan"), float("inf")])
def test_a_budget_out_of_range_is_refused(value):
    assert refusal(Budget, "macs", value) == (
        f"--macs {value:g}: must lie between 0 and 1, both excluded; 0.5 keeps half of the MACs"
    )


def test_each_kind_of_budget_says_what_its_number_means():
    assert refusal(Budget, "params", 1).endswith("0.5 keeps half of the parameters")
    assert refusal(Budget, "ratio", 1).endswith("0.5 removes half of the channels")
    assert refusal(Budget, "flops", 0.5) == "unknown budget 'flops', known are macs, params, ratio, latency"


def test_impossible_limits_are_refused():
    assert refusal(Limits, round_to=0) == "--round-to and the minimum of channels must be 1 or more"
    assert refusal(Limits, min_fraction=1.0) == "the minimum fraction of channels must be in [0, 1), not 1.0"


def chain(*sizes: int):
    """Linear layers in a row; one width between every two of them."""
    model = nn.Sequential(*(nn.Linear(a, b, bias=False) for a, b in zip((4, *sizes), (*sizes, 3), strict=True)))
    widths = [
        width(f"w{i}", n, use(f"{i}.weight", 0, "out", n), use(f"{i + 1}.weight", 1, "in", n))
        for i, n in enumerate(sizes)
    ]
    return model, graph_of(model, widths, {str(i): 1 for i in range(len(sizes) + 1)})


def allowance(built, budget: Budget | None = None, **limits) -> Allowance:
    model, graph = built
    return Allowance(graph, CostModel.of(model, graph), Limits(**limits), budget)


@pytest.mark.parametrize(
    "budget, message",
    [
        (
            Budget("macs", 0.01),
            "--macs 0.01: can't be reached, with every width at its smallest 10.6 % of the MACs remain; "
            "ask for at least 0.106",
        ),
        (
            Budget("ratio", 0.9),
            "--ratio 0.9: can't be reached, with every width at its smallest 20.0 % of the channels remain; "
            "ask for at most 0.8",
        ),
    ],
)
def test_a_budget_out_of_reach_is_refused_with_what_can_be_had(budget, message):
    assert refusal(shrink, allowance(chain(10, 10), budget), {"w0": 10, "w1": 10}) == message


def test_levels_honour_blocks_rounding_and_minima():
    _, graph = grouped()
    first, second = graph.widths
    assert levels(first, Limits(1)) == (4, 8, 12)
    assert levels(first, Limits(5)) == (8, 12)
    assert levels(second, Limits(1, round_to=6)) == (8,)
    assert levels(width("a", 20), Limits(2, round_to=8)) == (8, 16, 20)
    assert levels(width("a", 20), Limits(2, 0.5)) == tuple(range(10, 21))
    assert levels(width("a", 1), Limits(2)) == (1,)


def test_a_uniform_ratio_removes_that_fraction_of_every_width():
    assert uniform_counts(allowance(chain(10, 16), Budget("ratio", 0.4))) == {"w0": 6, "w1": 10}
    assert uniform_counts(allowance(chain(10, 16), Budget("ratio", 0.4), round_to=4)) == {"w0": 8, "w1": 12}
    assert uniform_counts(allowance(grouped(), Budget("ratio", 0.5))) == {"conv1": 8, "conv2": 4}
    assert uniform_counts(allowance(chain(10, 16), Budget("ratio", 0.99))) == {"w0": 2, "w1": 2}


networks = st.lists(st.integers(1, 40), min_size=1, max_size=5).map(lambda sizes: chain(*sizes))
budgets = st.builds(Budget, st.sampled_from(["macs", "params", "ratio"]), st.floats(0.02, 0.98))


def is_tight(room: Allowance, counts, caps) -> bool:
    """No single width can take one more step."""
    for name, n in counts.items():
        higher = [level for level in room.levels[name] if n < level <= caps[name]]
        if higher and room.meets({**counts, name: higher[0]}):
            return False
    return True


@settings(max_examples=60, deadline=None)
@given(networks, budgets, st.integers(1, 5), st.data())
def test_every_projection_meets_the_budget_and_wastes_nothing(built, budget, round_to, data):
    room = allowance(built, budget, min_channels=1, round_to=round_to)
    assume(room.meets(room.smallest()))
    base = {name: data.draw(st.sampled_from(allowed)) for name, allowed in room.levels.items()}
    steps = [
        Step(data.draw(st.floats(0, 1)), name, i) for name, allowed in room.levels.items()
        for i in reversed(range(len(allowed) - 1))
    ]  # fmt: skip
    found = [(shrink(room, base), base), (global_counts(room, steps), room.sizes)]
    if room.meets(base):
        found.append((grow(room, base), room.sizes))
        assert all(found[-1][0][name] >= n for name, n in base.items())
    for counts, caps in found:
        assert room.meets(counts)
        assert all(n in room.levels[name] and n <= caps[name] for name, n in counts.items())
        assert is_tight(room, counts, caps)


@settings(max_examples=40, deadline=None)
@given(networks, st.sampled_from(["macs", "params"]), st.floats(0.1, 0.9), st.floats(0.0, 0.1))
def test_a_larger_budget_keeps_no_less_up_to_one_step(built, kind, value, more):
    rooms = [allowance(built, Budget(kind, v), min_channels=1) for v in (value, min(value + more, 0.99))]
    assume(all(room.meets(room.smallest()) for room in rooms))
    small, large = (room.fraction(uniform_counts(room)) for room in rooms)
    one_step = max(room_step(rooms[0]), room_step(rooms[1]))
    assert small <= large + one_step


def room_step(room: Allowance) -> float:
    """The most that one step of one width can cost."""
    whole = room.fraction(room.sizes)
    drops = [whole - room.fraction({**room.sizes, name: allowed[-2]}) for name, allowed in room.levels.items()
             if len(allowed) > 1]  # fmt: skip
    return max(drops, default=0.0)


def test_uniform_stays_uniform():
    room = allowance(chain(40, 40, 40), Budget("macs", 0.5))
    counts = uniform_counts(room)
    assert max(counts.values()) - min(counts.values()) <= 2
    assert 0.48 < room.fraction(counts) <= 0.5


def test_global_takes_the_cheapest_first():
    room = allowance(chain(10, 10), Budget("ratio", 0.25), min_channels=1)
    steps = [Step(0.1 * level if name == "w0" else 10.0 + level, name, level) for name in room.levels
             for level in reversed(range(9))]  # fmt: skip
    assert global_counts(room, steps) == {"w0": 5, "w1": 10}


def test_giving_back_starts_where_most_is_missing():
    room = allowance(chain(10, 10), Budget("ratio", 0.5))
    assert give_back(room, {"w0": 2, "w1": 5}, room.sizes, lambda name, n: n / 10) == {"w0": 5, "w1": 5}


def test_growing_keeps_the_proportions_of_what_was_removed():
    room = allowance(chain(40, 40), Budget("ratio", 0.25))
    counts = grow(room, {"w0": 10, "w1": 30})
    assert counts["w0"] + counts["w1"] == 60
    assert abs((40 - counts["w0"]) / (40 - counts["w1"]) - 3) < 0.5


def test_counts_agree_with_kept_indices():
    model, graph = grouped()
    costs = CostModel.of(model, graph)
    assert costs.count({"conv1": 8}) == costs.predict({"conv1": np.arange(8)})


def test_an_unreachable_budget_is_a_budget_error():
    with pytest.raises(BudgetError):
        uniform_counts(allowance(chain(3), Budget("macs", 0.1)))


@pytest.mark.parametrize(("sizes", "value"), [((4, 30), 0.4), ((8, 12), 0.6), ((5, 40), 0.5), ((5, 40), 0.7)])
def test_coarse_steps_are_exchanged_for_others_but_not_below_a_floor(sizes, value, monkeypatch):
    room = allowance(chain(*sizes), Budget("params", value), min_channels=1)
    assert gap(room, uniform_counts(room)) < 0.01
    least = {"w0": 2, "w1": sizes[1] // 5}
    assert all(n >= least[name] for name, n in grow(room, least).items())
    monkeypatch.setattr("secateur.pruners.costs.budget._EXCHANGED", 0)
    assert gap(room, uniform_counts(room)) > 0.01


def gap(room: Allowance, counts) -> float:
    """What of the budget is left; as far as can be when it is not met."""
    return 1 - room.fraction(counts) / room.budget.limit if room.meets(counts) else 1.0


BUNDLED = sorted(set(registry.ARCHS) - {"resnet32", "resnet44", "resnet56", "resnet110", "vgg16", "vgg19"})
"""Deeper ones of a family are left out."""


@pytest.fixture(scope="module", params=BUNDLED)
def bundled(request):
    model = registry.create(request.param).eval()
    graph = trace(model, torch.randn(2, *registry.ARCHS[request.param].input_shape))
    return request.param, graph, CostModel.of(model, graph), rank(model, graph, "l1")


@pytest.mark.parametrize("kind", ["macs", "params"])
def test_bundled_networks_meet_budgets_within_one_percent(bundled, kind):
    name, graph, costs, ranking = bundled
    for value, strategy in itertools.product((0.3, 0.5, 0.7), ("uniform", "global", "bayesian")):
        room = Allowance(graph, costs, Limits(2, 0.1 if strategy == "global" else 0.0), Budget(kind, value))
        if strategy == "uniform":
            counts = uniform_counts(room)
        elif strategy == "global":
            counts = global_counts(room, steps(SimpleNamespace(allowance=room), ranking))
        else:  # what a search may have decided, projected
            draw = random.Random(name)
            base = {n: draw.choice([m for m in room.levels[n] if m >= 0.6 * size]) for n, size in room.sizes.items()}
            counts = (grow if room.meets(base) else shrink)(room, base)
        exact = costs.predict({n: ranking.keep(n, m) for n, m in counts.items()}).relative_to(costs.count({}))[kind]
        # two of the three widths of LeNet-5 have 20 and 50 channels, where a step is up to 2 % of the MACs
        slack = 0.03 if name.startswith("lenet5") else 0.01
        assert (1 - slack) * value <= exact <= value


def test_the_least_that_can_be_reached_is_reached(bundled):
    _, graph, costs, _ = bundled
    words = refusal(uniform_counts, allowance_of(graph, costs, 1e-6))
    least = float(words.rpartition("at least ")[2])
    assert allowance_of(graph, costs, least).meets(uniform_counts(allowance_of(graph, costs, least)))
    if least > 0.001:
        assert refusal(uniform_counts, allowance_of(graph, costs, least - 0.001)).endswith(f"at least {least:g}")


def allowance_of(graph, costs, value: float) -> Allowance:
    return Allowance(graph, costs, Limits(2), Budget("macs", value))
