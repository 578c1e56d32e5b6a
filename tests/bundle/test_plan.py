from __future__ import annotations

import json

import pytest
import torch
from hand_graphs import grouped, plain
from hypothesis import given
from hypothesis import strategies as st
from plans import compose, identity

from secateur.pruners import plan as plans
from secateur.pruners.errors import PlanError
from secateur.pruners.plan import PruningPlan, WidthPlan

WIDTH = '"size": 3, "kept": [0, 2]'

MALFORMED = {
    "a text that is not JSON": ("{", "plan: not a JSON text (Expecting property name enclosed in double quotes"),
    "a key that is there twice": ('{"schema": 1, "schema": 1}', "plan: not a JSON text (key 'schema' is there twice)"),
    "a number that JSON doesn't know": ('{"schema": NaN}', "plan: not a JSON text (NaN is no JSON number)"),
    "a list": ("[]", "plan: a plan is a JSON object, not a list"),
    "no schema": ("{}", "plan: schema null is unknown, this version reads schema 1"),
    "a later schema": ('{"schema": 2}', "plan: schema 2 is unknown, this version reads schema 1"),
    "a schema that is true": ('{"schema": true}', "plan: schema true is unknown, this version reads schema 1"),
    "no widths": ('{"schema": 1}', 'plan: "widths" must be an object, not missing or null'),
    "provenance that is a text": (
        '{"schema": 1, "widths": {}, "provenance": "x"}',
        'plan: "provenance" must be an object, not a text',
    ),
    "an unknown key": (
        '{"schema": 1, "width": {}}',
        "plan: unknown key 'width', known are provenance, schema, widths",
    ),
    "a width that is a list": (
        '{"schema": 1, "widths": {"a": [1]}}',
        "plan: width 'a': must be an object with size and kept, not a list",
    ),
    "an unknown key in a width": (
        '{"schema": 1, "widths": {"a": {"sizes": 3}}}',
        "plan: width 'a': unknown key 'sizes', known are kept, size",
    ),
    "a size that is a text": (
        '{"schema": 1, "widths": {"a": {"size": "3", "kept": [0]}}}',
        "plan: width 'a': \"size\" must be a positive whole number, not \"3\"",
    ),
    "code instead of indices": (
        '{"schema": 1, "widths": {"a": {"size": 3, "kept": "range(2)"}}}',
        "plan: width 'a': \"kept\" must be a list of channel indices, not a text",
    ),
    "an index that is not whole": (
        '{"schema": 1, "widths": {"a": {"size": 3, "kept": [0, 1.0]}}}',
        "plan: width 'a': \"kept\" must hold whole numbers only, not 1.0",
    ),
    "an index that is true": (
        '{"schema": 1, "widths": {"a": {"size": 3, "kept": [true]}}}',
        "plan: width 'a': \"kept\" must hold whole numbers only, not true",
    ),
    "an empty width": (
        '{"schema": 1, "widths": {"a": {"size": 3, "kept": []}}}',
        "plan: width 'a': keeps no channel, at least one must stay",
    ),
    "an index out of range": (
        '{"schema": 1, "widths": {"a": {"size": 3, "kept": [0, 3]}}}',
        "plan: width 'a': index 3 is out of range, the width has 3 channels (0 to 2)",
    ),
    "a negative index": (
        '{"schema": 1, "widths": {"a": {"size": 3, "kept": [-1]}}}',
        "plan: width 'a': index -1 is out of range, the width has 3 channels (0 to 2)",
    ),
    "an index twice": (
        '{"schema": 1, "widths": {"a": {"size": 3, "kept": [1, 1]}}}',
        "plan: width 'a': index 1 is there twice",
    ),
    "unsorted indices": (
        '{"schema": 1, "widths": {"a": {"size": 3, "kept": [2, 0]}}}',
        "plan: width 'a': indices must increase, but 0 follows 2",
    ),
}


@pytest.mark.parametrize("text, message", MALFORMED.values(), ids=MALFORMED.keys())
def test_refuses(text, message):
    with pytest.raises(PlanError) as caught:
        PruningPlan.from_json(text)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def refusal(call, *args, **kwargs) -> str:
    with pytest.raises(PlanError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


def test_a_missing_or_unreadable_file_is_refused(tmp_path):
    assert refusal(plans.load, tmp_path / "no.json") == f"{tmp_path}/no.json: there is no such plan file"
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    assert refusal(plans.load, tmp_path / "binary.json").startswith(f"{tmp_path}/binary.json: can't be read (")


def test_a_deeply_nested_text_is_refused():
    assert "not a JSON text" in refusal(PruningPlan.from_json, "[" * 100_000)


def test_a_plan_for_another_network_is_refused():
    _, graph = plain()
    good = identity(graph)

    def changed(**widths: WidthPlan | None) -> PruningPlan:
        merged = {**good.widths, **widths}
        return PruningPlan({n: w for n, w in merged.items() if w is not None})

    assert refusal(plans.validate, changed(x=WidthPlan(1, (0,))), graph) == (
        "the network has no width 'x'; it has conv1, conv2"
    )
    assert refusal(plans.validate, changed(conv2=None), graph) == (
        "the plan says nothing about width 'conv2' (6 channels)"
    )
    assert refusal(plans.validate, changed(conv2=WidthPlan(7, (0,))), graph) == (
        "width 'conv2': the plan is for 7 channels, the network has 6"
    )
    assert refusal(plans.validate, changed(conv2=WidthPlan(6, ())), graph) == (
        "width 'conv2': keeps no channel, at least one must stay"
    )
    assert refusal(plans.from_kept, graph, {"conv3": (0,)}) == "the network has no width 'conv3'; it has conv1, conv2"


def test_a_convolution_group_cut_in_half_is_refused():
    _, graph = grouped()
    assert refusal(plans.from_kept, graph, {"conv2": (0, 1, 2, 3, 4, 5, 7)}) == (
        "width 'conv2': block 3 keeps 1 channels, block 0 keeps 2; all 4 blocks must keep equally many"
    )
    assert "block 1 keeps 0 channels, block 0 keeps 2" in refusal(plans.from_kept, graph, {"conv2": (0, 1)})
    plans.from_kept(graph, {"conv2": (0, 3, 5, 6)})


def test_plans_that_do_not_follow_each_other_are_refused():
    first = PruningPlan({"a": WidthPlan(4, (0, 2, 3))})
    assert refusal(compose, first, PruningPlan({})) == (
        "width 'a' is in the first plan only; both must be made for the same network"
    )
    assert refusal(compose, PruningPlan({}), first) == (
        "width 'a' is in the second plan only; both must be made for the same network"
    )
    assert refusal(compose, first, first) == "width 'a': the first plan keeps 3, the second starts at 4"


def test_a_plan_for_another_source_or_other_weights_is_refused():
    plan = PruningPlan({}, {"source_sha256": "a" * 64})
    plans.require_same(plan, source_sha256="a" * 64, weights_sha256="b" * 64)
    assert refusal(plans.require_same, plan, source_sha256="c" * 64) == (
        "the plan was made for another source (source_sha256 aaaaaaaaaaaa, now cccccccccccc); "
        "bring back that source or make a new plan"
    )


def test_the_text_is_deterministic_and_readable():
    plan = PruningPlan({"b": WidthPlan(4, (0, 3)), "a": WidthPlan(2, (1,))}, {"seed": 0, "input": [1, 8]})
    same = PruningPlan(dict(reversed(plan.widths.items())), dict(reversed(plan.provenance.items())))
    assert plan.to_json() == same.to_json()
    assert plan.digest == same.digest
    assert plan.to_json().splitlines()[-6:] == [
        '  "schema": 1,',
        '  "widths": {',
        '    "a": {"kept": [1], "size": 2},',
        '    "b": {"kept": [0, 3], "size": 4}',
        "  }",
        "}",
    ]


def test_long_lists_are_wrapped():
    plan = PruningPlan({"a": WidthPlan(2048, tuple(range(2048)))})
    assert max(map(len, plan.to_json().splitlines())) <= 110
    assert PruningPlan.from_json(plan.to_json()) == plan


names = st.text(min_size=1, max_size=8)
subsets = st.integers(1, 20).flatmap(
    lambda size: st.sets(st.integers(0, size - 1), min_size=1).map(lambda kept: WidthPlan(size, tuple(sorted(kept))))
)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


# Facts of names that a plan knows are checked for their types, so these are of other names.
facts = st.dictionaries(names.map("own {}".format), scalars, max_size=4)


@given(st.builds(PruningPlan, st.dictionaries(names, subsets, max_size=4), facts))
def test_writing_and_reading_gives_the_same_plan(plan):
    again = PruningPlan.from_json(plan.to_json())
    assert again == plan
    assert again.to_json() == plan.to_json()
    json.loads(plan.to_json())


@given(st.data())
def test_composing_is_pruning_twice(data):
    first = data.draw(st.dictionaries(names, subsets, max_size=4))

    def follow(widths):
        sets = {n: st.sets(st.integers(0, len(w.kept) - 1), min_size=1) for n, w in widths.items()}
        drawn = {n: tuple(sorted(data.draw(s))) for n, s in sets.items()}
        return {n: WidthPlan(len(widths[n].kept), k) for n, k in drawn.items()}

    second = follow(first)
    third = follow(second)
    one, two, three = map(PruningPlan, (first, second, third))
    twice = compose(one, two)
    for name, width in first.items():
        channels = list(range(width.size))
        once = [channels[i] for i in width.kept]
        assert list(twice.widths[name].kept) == [once[i] for i in second[name].kept]
    assert compose(twice, three) == compose(one, compose(two, three))


def test_the_identity_plan_changes_nothing():
    _, graph = grouped()
    whole = identity(graph, {"seed": 0})
    assert graph.masks(whole.kept) == {}
    some = plans.from_kept(graph, {"conv2": (0, 3, 5, 6)})
    assert compose(identity(graph), some) == some


def test_the_hash_of_a_state_sees_every_difference_but_not_the_order():
    state = {"a": torch.arange(4.0), "b": torch.tensor(1, dtype=torch.int64), "c": torch.ones(2, dtype=torch.bfloat16)}
    base = plans.sha256_of_state(state)
    assert plans.sha256_of_state(dict(reversed(state.items()))) == base
    others = [
        {**state, "a": torch.arange(4.0) + 1},
        {**state, "a": torch.arange(4.0).reshape(2, 2)},
        {**state, "a": torch.arange(4.0).double()},
        {**state, "d": torch.ones(1)},
    ]
    assert len({base, *map(plans.sha256_of_state, others)}) == 5


def test_the_hash_of_a_file_is_sha256(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    assert plans.sha256_of_file(tmp_path / "f").startswith("ba7816bf8f01cfea")
