"""A plan may come from anybody: nothing in it is run, and what is damaged is refused in one line."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path

import pytest
from app_helpers import app

from secateur.pruners.errors import PlanError
from secateur.pruners.plan import PruningPlan

DEEP = json.loads("[" * 200 + "]" * 200)
OTHERS = [
    None, True, 5, -1, 10**30, 0.5, "", "x", "\ud800", "'\"\"\"", [], [[]], ["c1"], [["c1"]], [10**12], {}, {"a": 1}
]  # fmt: skip
QUICK = [None, -1, 10**30, "\ud800", [["c1"]], {"a": 1}]
NOTED = '''
from torch import nn


class Net(nn.Module):
    def __init__(self, note="", width=6):
        super().__init__()
        self.note = note
        self.a, self.b = nn.Conv2d(1, width, 3), nn.Conv2d(width, 2, 3)

    def forward(self, x):
        return self.b(self.a(x).relu()).mean((2, 3)) * (1 + len(self.note))
'''


@pytest.fixture
def plan(here):
    (here / "own_noted.py").write_text(NOTED)
    assert app("prune", "-q", *OWN, "--ratio", "0.5", "-o", "out").exit_code == 0
    return json.loads((here / "out" / "plan.json").read_text())


OWN = ("--model", "own_noted.py:Net", "--input-shape", "1,8,8")


def applied(plan, text=None):
    Path("plan.json").write_text(json.dumps(plan) if text is None else text, "utf-8")
    result = app("apply", "-q", "plan.json", "--model", "own_noted.py:Net", "-o", "again", "--force")
    assert "Traceback" not in result.stderr
    assert result.exit_code == 0 or result.stderr.count("\n") == 1, result.stderr
    return result


def places(value, path=()):
    """The paths of all values in it."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inside:
        yield from places(part, (*path, key))


def changed(plan, path, value):
    if not path:
        return value
    changed = copy.deepcopy(plan)
    part = changed
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    return changed


def test_no_value_of_another_type_is_a_fault_of_ours(plan):
    others = OTHERS if os.environ.get("SECATEUR_LONG_TESTS") else QUICK
    for path in places(plan):
        for other in others:
            said = applied(changed(plan, path, other))
            assert said.exit_code in (0, 2, 3), (path, other, said.stderr)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"skip": 5}, "the plan's skip is damaged, it must be a list of layers' names"),
        ({"skip": None}, "the plan's skip is damaged"),
        ({"skip": [["c1"]]}, "the plan's skip is damaged"),
        ({"arguments": ["a"]}, "the plan's arguments is damaged"),
        ({"arguments": {"a=b": 1}}, "the plan's arguments is damaged"),
        ({"arguments": {"width": DEEP}}, "the plan is damaged, it is nested more than 24 deep"),
        ({"of another tool": "\udc80"}, "the plan is damaged, '\\udc80' is no UTF-8 text"),
        ({"\udc80": 1}, "the plan is damaged, '\\udc80' is no UTF-8 text"),
        ({"model_seed": 2**64}, "the plan's model_seed is damaged, it must be a whole number of at most 64 bits"),
        ({"model_seed": True}, "the plan's model_seed is damaged"),
        ({"input_shapes": [[3, 2**20, 2**20]]}, "the plan's input_shapes is damaged"),
        ({"input_shapes": [[]]}, "the plan's input_shapes is damaged"),
        ({"network": {"kind": "XNOR"}}, "the plan's network is damaged"),
        ({"network": None}, "the plan's network is damaged"),
        ({"ratio": "0.5"}, "the plan's ratio is damaged, it must be a number"),
        ({"weights": 7}, "the plan's weights is damaged, it must be a text"),
    ],
)
def test_a_damaged_provenance_is_named(facts, said):
    text = json.dumps({"schema": 1, "widths": {}, "provenance": facts})
    with pytest.raises(PlanError) as refused:
        PruningPlan.from_json(text)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity", "1" * 5000])
def test_a_number_that_is_none_is_refused(number):
    with pytest.raises(PlanError):
        PruningPlan.from_json(f'{{"schema": 1, "widths": {{}}, "provenance": {{"ratio": {number}}}}}')


@pytest.mark.parametrize("text", ["[" * 100_000, '{"schema": ' + "[" * 900 + "]" * 900 + "}", "\ufeff{}", "", "nul"])
def test_a_text_that_is_no_plan_is_refused(here, text):
    assert applied(None, text).exit_code == 2


def test_code_in_an_argument_stays_a_text(plan, here):
    code = f'open({str(here / "was_run")!r}, "w")'
    breaking_out = (f'"""";{code};x="a"""""', f'""";{code};x="""', f'\\""";{code};x="""', f'\n"""\n{code}\nx="""')
    for note in (*breaking_out, "\u202e"):
        plan["provenance"]["arguments"] = {"note": note}
        assert applied(plan).exit_code == 0
        again: dict = {"__name__": "again"}
        exec((here / "again" / "model.py").read_text("utf-8"), again)
        assert again["Net"]().note == note
        assert not (here / "was_run").exists()


def test_facts_of_other_tools_are_kept(plan, here):
    plan["provenance"]["reviewed by"] = ["somebody", {"on": None}]
    assert applied(plan).exit_code == 0
    assert json.loads((here / "again" / "plan.json").read_text()) == plan
