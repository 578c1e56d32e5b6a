"""The report: what is refused, what it shows, and that nothing in it is fetched or run."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import jinja2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from secateur.pruners.bundle import comparison, frozen_facts, place, render_report
from secateur.pruners.bundle.report.charts import Series, chart, evaluations_in, search_chart, training_charts
from secateur.pruners.bundle.report.diff import changes, side_by_side
from secateur.pruners.bundle.report.picture import picture
from secateur.pruners.graph import ChannelGraph, FrozenChannels, Slot
from secateur.pruners.places import NOWHERE, Site
from secateur.pruners.plan import PruningPlan, WidthPlan

PLAN = PruningPlan({"conv1": WidthPlan(8, (0, 1, 2)), "conv2": WidthPlan(4, (0, 1, 2, 3))}, {"metric": "l1", "seed": 3})
SUMMARY = {
    "factory": "net",
    "file": "net_pruned.py",
    "source": "net.py, net(width=8)",
    "params": {"before": 1000, "after": 250},
    "macs": {"before": 80_000, "after": 60_000},
    "latency_ms": {"before": 1.5, "after": 1.0},
    "accuracy": {"before": 0.9, "pruned": 0.5, "retrained": 0.895},
    "frozen": [{"layers": ["fc"], "channels": 10, "reason": "an output of the network", "place": "net.py:12"}],
    "max_abs_diff": 1.2e-15,
}
LEDGER = b"""{"event": "search"}
{"event": "evaluation", "width": "conv1", "kept": 8, "loss": 0.5, "is_best": true}
{"event": "evaluation", "width": "conv1", "kept": 3, "loss": null, "is_best": false}
{"event": "evaluation", "width": "conv1", "kept": 3, "loss": 0.25, "is_best": true}
{"event": "decision", "width": "conv1", "size": 8, "kept": 3}
"""

TEMPLATES = Path(__file__).parents[2] / "templates" / "report"


DETAILS = {
    "schema": 1,
    "layers": [
        {"name": "block.0.conv1", "kind": "Conv2d", "params": [800, 300], "macs": [80_000, 30_000]},
        {"name": "block.0.norm", "kind": "BatchNorm2d", "params": [16, 6], "macs": [0, 0]},
        {"name": "fc", "kind": "Linear", "params": [80, 30], "macs": [80, 30]},
    ],
    "channels": {"block.0.conv1": [8, 3]},
    "widths": {
        "conv1": {"out": ["block.0.conv1"], "in": ["fc"], "per": ["block.0.norm"], "ties": [
            {"layer": "fc", "role": "inputs of", "tie": "reads", "to": "block.0.conv1", "place": "net.py:9"}]},
    },
    "source": [{"name": "Net", "file": "net.py", "text": "class Net:\n    size = 8\n    name = 'net'\n"}],
}  # fmt: skip
TEXT = "class Net:\n    size = 3\n    name = 'net'\n"


class Page(HTMLParser):
    """A page as a browser reads it; every tag that is opened must be closed."""

    VOID = {"meta"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.titled: set[int] = set()
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "title" and self.open[-2] == "svg":
            self.titled.add(sum(name == "svg" for name, _ in self.tags))

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def whole() -> str:
    """A report with all that one can hold."""
    training = [{"epoch": n, "train_loss": 1 / (n + 1), "val_loss": 2 / (n + 1), "val_top1": 0.5} for n in range(3)]
    transfer = {"healed": {"curve": [[0, 1.0], [5, 0.01]]}}
    machine = {"cpu": "a processor", "cores": 2, "torch": "2", "device": "cpu", "threads": 1}
    summary = {**SUMMARY, "training": training, "transfer": transfer, "machine": machine, "notes": ["mind this"]}
    return render_report(summary, PLAN, LEDGER, DETAILS, TEXT)


def test_a_missing_value_is_an_error_and_not_an_empty_place():
    with pytest.raises(KeyError):
        render_report({k: v for k, v in SUMMARY.items() if k != "frozen"}, PLAN)
    with pytest.raises(jinja2.UndefinedError):
        render_report({**SUMMARY, "frozen": [{"layers": ["fc"]}]}, PLAN)


def test_names_are_escaped():
    plan = PruningPlan({"<script>alert(1)</script>": WidthPlan(2, (0,))}, {"note": "<b>"})
    text = render_report({**SUMMARY, "source": "<i>"}, plan)
    assert "<script>alert" not in text
    assert "<b>" not in text
    assert "<i>" not in text


def test_nothing_is_fetched():
    for template in TEMPLATES.glob("*.j2"):
        assert not re.search(r"https?:|src=|@import|url\(|<script .|<link|fetch\(", template.read_text()), template.name
    places = {v for _, attrs in Page(whole()).tags for k, v in attrs.items() if k in ("href", "src", "xlink:href")}
    assert places and all(place.startswith("#") for place in places if place)


def test_links_lead_somewhere_and_ids_are_unique():
    tags = Page(whole()).tags
    ids = [attrs["id"] for _, attrs in tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    keys = ("href", "data-copy", "aria-labelledby")
    named = {attrs[k].lstrip("#") for _, attrs in tags for k in keys if attrs.get(k)}
    assert {part for name in named for part in name.split()} <= set(ids)


def test_headings_are_in_order_and_drawings_have_titles():
    page = Page(whole())
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    drawings = sum(tag == "svg" for tag, _ in page.tags)
    assert drawings == 5 and len(page.titled) == drawings  # the graph, the search, healing, loss, accuracy


def test_no_chart_without_two_evaluations():
    assert search_chart([]) is None
    assert search_chart(evaluations_in(b'{"event": "decision"}\n')) is None
    assert search_chart(evaluations_in(LEDGER)[:2]) is None
    assert "Curves" not in render_report(SUMMARY, PLAN)


def test_a_bundle_without_details_has_a_report_without_them():
    text = render_report(SUMMARY, PLAN)
    assert "Channel graph" not in text and "Source" not in text and 'id="layers"' not in text


def test_lines_that_are_alike_stand_side_by_side():
    lines = side_by_side(["a = conv(3, 16)", "gone", "same"], ["a = conv(3, 5)", "same", "new"])
    told = [("".join(p.text for p in x.before or ()), "".join(p.text for p in x.after or ())) for x in lines]
    assert told == [("a = conv(3, 16)", "a = conv(3, 5)"), ("gone", ""), ("same", "same"), ("", "new")]
    assert [p.text for p in lines[0].after if p.changed] == ["5"]
    assert [x.numbers for x in lines] == [(1, 1), (2, None), (3, 2), (None, 3)]


LINES = st.lists(st.text("ab= (1,6)", max_size=12), max_size=12)


@given(LINES, LINES)
def test_side_by_side_holds_every_line_of_both_in_order(before, after):
    lines = side_by_side(before, after)
    assert ["".join(p.text for p in x.before) for x in lines if x.before is not None] == before
    assert ["".join(p.text for p in x.after) for x in lines if x.after is not None] == after
    assert all(x.before == x.after for x in lines if x.same)


def test_many_lines_that_are_alike_are_paired_by_place():
    before, after = ([f"Block({i * n}, {i + n})," for i in range(600)] for n in (7, 11))
    lines = side_by_side(before, after)
    assert ["".join(p.text for p in x.before) for x in lines if x.before] == before
    assert ["".join(p.text for p in x.after) for x in lines if x.after] == after
    assert any(p.changed for p in lines[300].after)


def test_long_stretches_without_a_change_are_left_out():
    before = [f"line {i}" for i in range(40)]
    after = [*before[:20], "another one", *before[21:]]
    [change] = changes([{"name": "f", "file": "", "text": "\n".join(before)}], {"f": "\n".join(after)})
    assert [h.left_out for h in change.hunks] == [17] and change.left_out == 16
    assert (change.removed, change.added) == (1, 1)
    assert changes([{"name": "f", "file": "", "text": "a\n"}], {"f": "a"}) == []


def test_the_picture_has_a_row_for_each_layer_and_a_line_for_each_width():
    drawn = picture(PLAN, DETAILS, SUMMARY["frozen"])
    assert [(r.text, r.head) for r in drawn.rows] == [("block.0", True), ("conv1", False), ("fc", False)]
    [line] = drawn.strands
    assert (line.kept, line.size, line.share) == (3, 8, "some")
    assert [d.role for d in line.dots] == ["out", "in"]
    assert drawn.rows[1].numbers == "3/8" and "an output of the network (net.py:12)" in drawn.rows[2].stays


def test_lines_in_the_picture_never_cross_in_one_lane():
    names = [f"l{i}" for i in range(8)]
    pairs = {f"w{a}{b}": (a, b) for a in range(8) for b in range(a + 1, 8)}
    details = {
        "layers": [{"name": n, "kind": "Linear", "params": [1, 1], "macs": [1, 1]} for n in names],
        "widths": {w: {"out": [names[a]], "in": [names[b]], "per": [], "ties": []} for w, (a, b) in pairs.items()},
    }
    plan = PruningPlan({w: WidthPlan(4, (0,)) for w in pairs}, {})
    strands = sorted(picture(plan, details, []).strands, key=lambda s: (s.x, s.top))
    assert len(strands) == len(pairs)
    assert all(a.x != b.x or a.bottom < b.top for a, b in pairwise(strands))


def test_the_whole_page_tells_of_layers_source_curves_and_machine():
    text = whole()
    assert "<del>8</del>" in text and "<ins>3</ins>" in text
    assert "inputs of <code>fc</code>: reads <code>block.0.conv1</code> at net.py:9" in text
    assert "80,000" in text and "-62.5 %" in text
    assert "mind this" in text and "a processor" in text
    assert "distance on held-out inputs (logarithmic)" in text


def test_shows_costs_widths_what_stays_and_how_to_load():
    text = render_report(SUMMARY, PLAN, LEDGER)
    assert "1,000" in text
    assert "-75.0 %" in text
    assert "width: 37.5%" in text
    assert "an output of the network" in text
    assert "net.py:12" in text
    assert "from net_pruned import net\n" in text
    assert "2 widths, 1 of them whole" in text


def test_the_same_bundle_gives_the_same_report():
    assert render_report(SUMMARY, PLAN, LEDGER) == render_report(dict(reversed(SUMMARY.items())), PLAN, LEDGER)


def test_comparison_holds_what_was_measured():
    rows = {r.name: (r.before, r.after, r.change) for r in comparison(SUMMARY)}
    assert rows["milliseconds for one input"] == ("1.50", "1.00", "-33.3 %")
    assert rows["test accuracy, pruned"] == ("90.00%", "50.00%", "-40.00 points")
    assert rows["test accuracy, retrained"] == ("90.00%", "89.50%", "-0.50 points")
    assert len(comparison({"params": SUMMARY["params"], "accuracy": {"before": None, "pruned": None}})) == 1


def test_the_chart_spans_its_box_and_leaves_out_what_was_not_finite():
    drawn = search_chart(evaluations_in(LEDGER))
    assert drawn is not None
    [line] = drawn.lines
    assert [(p.x, p.y, p.best) for p in line.points] == [
        (drawn.left, drawn.top, True), (drawn.right, drawn.bottom, True)
    ]  # fmt: skip
    assert line.points[1].label == "conv1: 3 kept, held-out loss 0.25"
    assert "from 0.25 to 0.5" in drawn.told


@example([-1.2e-38, -1.9e-39])
@example([1e-13, 3e-13])
@example([0.0, 5e-324])
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30))
def test_all_points_and_ticks_of_a_chart_lie_in_its_box(values):
    drawn = chart("x", "title", "x", "y", [Series("s", [(float(i), y, "", False) for i, y in enumerate(values)])])
    assert all(drawn.left <= p.x <= drawn.right and drawn.top <= p.y <= drawn.bottom for p in drawn.lines[0].points)
    assert 1 <= len(drawn.y_ticks) <= 9 and all(drawn.top <= t.at <= drawn.bottom for t in drawn.y_ticks)


def test_an_axis_is_logarithmic_where_values_reach_over_decades():
    values = [(float(i), 10.0**-i, "", False) for i in range(5)]
    drawn = chart("x", "title", "x", "y", [Series("s", values)])
    assert drawn.logarithmic and [t.label for t in drawn.y_ticks] == ["0.0001", "0.001", "0.01", "0.1", "1"]
    assert not chart("x", "t", "x", "y", [Series("s", [*values, (5.0, 0.0, "", False)])]).logarithmic


def test_training_has_a_chart_of_losses_and_one_of_accuracy():
    epochs = [
        {"epoch": n, "train_loss": None if n == 0 else 0.5, "val_loss": 0.6, "val_top1": 0.9} for n in range(3)
    ]  # fmt: skip
    loss, accuracy = training_charts(epochs)
    assert [len(line.points) for line in loss.lines] == [2, 3]
    assert accuracy.lines[0].points[0].label == "epoch 0: 90.00% on validation images"


def test_places_hold_no_path_of_one_machine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert place(Site(str(tmp_path / "nets" / "a.py"), 3)) == "nets/a.py:3"
    assert place(Site("/somewhere/else/b.py", 4)) == "b.py:4"
    assert place(NOWHERE) == ""


def test_frozen_channels_are_told_by_layer():
    slots = (Slot("fc.weight", 0), Slot("fc.bias", 0), Slot("<pad>", 0))
    frozen = FrozenChannels(slots, 10, "an output of the network", Site("/x/net.py", 12))
    import networkx as nx

    graph = ChannelGraph((), (frozen,), {}, (), nx.Graph())
    assert frozen_facts(graph) == [
        {"layers": ["fc", "<pad>"], "channels": 10, "reason": "an output of the network", "place": "net.py:12"}
    ]
