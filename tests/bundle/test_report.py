"""The report: what is refused, what it shows, and that nothing in it is fetched or run."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import jinja2
import pytest

from secateur.pruners.bundle import comparison, frozen_facts, place, render_report
from secateur.pruners.bundle.report import chart, evaluations_in
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

TEMPLATE = Path(__file__).parents[2] / "templates" / "report.html.j2"


class Checker(HTMLParser):
    """Every tag that is opened is closed."""

    VOID = {"meta", "circle"}

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_a_missing_value_is_an_error_and_not_an_empty_place():
    with pytest.raises(KeyError):
        render_report({k: v for k, v in SUMMARY.items() if k != "frozen"}, PLAN)
    with pytest.raises(jinja2.UndefinedError):
        render_report({**SUMMARY, "frozen": [{"layers": ["fc"]}]}, PLAN)


def test_names_are_escaped():
    plan = PruningPlan({"<script>alert(1)</script>": WidthPlan(2, (0,))}, {"note": "<b>"})
    text = render_report({**SUMMARY, "source": "<i>"}, plan)
    assert "<script>" not in text
    assert "<b>" not in text
    assert "<i>" not in text


def test_nothing_is_fetched():
    assert not re.search(r"https?:|src=|@import|<script|<link", TEMPLATE.read_text())


def test_no_chart_without_evaluations():
    assert chart([]) is None
    assert chart(evaluations_in(b'{"event": "decision"}\n')) is None
    assert "The search" not in render_report(SUMMARY, PLAN)


def test_shows_costs_widths_what_stays_and_how_to_load():
    text = render_report(SUMMARY, PLAN, LEDGER)
    assert "1,000" in text
    assert "-75.0 %" in text
    assert "width: 37.5%" in text
    assert "an output of the network" in text
    assert "net.py:12" in text
    assert "from net_pruned import net\n" in text
    assert "2 widths, 1 of them whole" in text


def test_the_page_is_well_formed():
    checker = Checker()
    checker.feed(render_report(SUMMARY, PLAN, LEDGER))
    assert checker.open == []


def test_the_same_bundle_gives_the_same_report():
    assert render_report(SUMMARY, PLAN, LEDGER) == render_report(dict(reversed(SUMMARY.items())), PLAN, LEDGER)


def test_comparison_holds_what_was_measured():
    rows = {r.name: (r.before, r.after, r.change) for r in comparison(SUMMARY)}
    assert rows["milliseconds for one input"] == ("1.50", "1.00", "-33.3 %")
    assert rows["test accuracy, pruned"] == ("90.00%", "50.00%", "-40.00 points")
    assert rows["test accuracy, retrained"] == ("90.00%", "89.50%", "-0.50 points")
    assert len(comparison({"params": SUMMARY["params"], "accuracy": {"before": None, "pruned": None}})) == 1


def test_the_chart_spans_its_box_and_leaves_out_what_was_not_finite():
    drawn = chart(evaluations_in(LEDGER))
    assert drawn is not None
    assert [(p.x, p.y, p.best) for p in drawn.points] == [(8.0, 8.0, True), (632.0, 192.0, True)]
    assert (drawn.low, drawn.high) == ("0.250", "0.500")
    assert drawn.points[1].label == "conv1: 3 kept, loss 0.2500"


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
