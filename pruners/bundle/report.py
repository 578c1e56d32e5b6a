"""The report of a bundle: what was there, what is there now, what stayed and why. One HTML file, nothing to fetch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from ..graph import ChannelGraph
from ..places import Site
from ..plan import PruningPlan
from ..shown import visible

_CHART = (640.0, 200.0, 8.0)  # width, height and margin of the drawing
_QUANTITIES = (
    ("params", "parameters", "{:,}"),
    ("macs", "MACs for one input", "{:,}"),
    ("bits", "bits of the parameters", "{:,}"),
    ("size_bytes", "bytes of weights on disk", "{:,}"),
    ("latency_ms", "milliseconds for one input", "{:.2f}"),
)


@dataclass(frozen=True)
class Row:
    """One line of the before/after table, ready to show."""

    name: str
    before: str
    after: str
    change: str = ""


@dataclass(frozen=True)
class WidthRow:
    name: str
    size: int
    kept: int

    @property
    def percent(self) -> float:
        return round(100 * self.kept / self.size, 1)


@dataclass(frozen=True)
class Point:
    """One evaluation in the chart: ``x`` and ``y`` in the drawing, ``best`` a new best of its width."""

    x: float
    y: float
    best: bool
    label: str


@dataclass(frozen=True)
class Chart:
    width: float
    height: float
    low: str
    high: str
    points: tuple[Point, ...]


def frozen_facts(graph: ChannelGraph) -> list[dict[str, Any]]:
    """What can't be pruned, as values for ``summary.json``: layers, channels, reason, place."""
    return [
        {
            "layers": list(dict.fromkeys(s.layer or s.parameter for s in f.slots)),
            "channels": f.count,
            "reason": f.reason,
            "place": place(f.site),
        }
        for f in graph.frozen
    ]


def place(site: Site) -> str:
    """File and line, the file relative to the current folder or, elsewhere, by its name: no path of one machine."""
    if not site.file:
        return ""
    path = Path(site.file)
    return f"{path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path.name}:{site.line}"


def comparison(summary: Mapping[str, Any]) -> list[Row]:
    """The before/after table: costs that were counted, latency and accuracy where they were measured."""
    rows = _entries(summary)
    for key, name, form in _QUANTITIES:
        values = summary.get(key)
        if values:
            before, after = values["before"], values["after"]
            rows.append(Row(name, form.format(before), form.format(after), _change(before, after)))
    score = summary.get("score") or {}
    for key in ("pruned", "retrained"):
        if key in score:
            before, after = score["before"], score[key]
            name = f"score {score['name']}, {key}"
            rows.append(Row(name, f"{before:.6g}", f"{after:.6g}", f"{after - before:+.4g}"))
    accuracy = summary.get("accuracy") or {}
    for key, name in (("pruned", "test accuracy, pruned"), ("retrained", "test accuracy, retrained")):
        if accuracy.get(key) is not None:
            before, after = accuracy.get("before"), accuracy[key]
            if before is None:  # the original was never measured
                rows.append(Row(name, "", f"{after:.2%}"))
            else:
                rows.append(Row(name, f"{before:.2%}", f"{after:.2%}", f"{100 * (after - before):+.2f} points"))
    if perplexity := summary.get("perplexity"):
        for key, more in (("pruned", ""), ("retrained", ", retrained")):
            if key in perplexity:
                before, after = perplexity["before"], perplexity[key]
                told = (f"{before:.3f}", f"{after:.3f}", _change(before, after)) if before else ("", f"{after:.3f}", "")
                rows.append(Row(f"perplexity on held-out text{more}", *told))
    agreement = summary.get("agreement")
    if agreement:
        rows.append(Row("taken for the same class as before", "", f"{agreement['pruned']:.2%}"))
    return rows


def _entries(summary: Mapping[str, Any]) -> list[Row]:
    """The numbers of a configuration that are others now."""
    told = summary.get("configuration") or {}
    return [Row(n, f"{v['before']:g}", f"{v['after']:g}") for n, v in told.items() if v["before"] != v["after"]]


def _change(before: float, after: float) -> str:
    return f"{100 * (after - before) / before:+.1f} %" if before else ""


def width_rows(plan: PruningPlan) -> list[WidthRow]:
    return [WidthRow(name, w.size, len(w.kept)) for name, w in plan.widths.items()]


def evaluations_in(ledger: bytes) -> list[dict[str, Any]]:
    """The evaluations of a ``search.jsonl``."""
    entries = [json.loads(line) for line in ledger.decode("utf-8").splitlines()]
    return [e for e in entries if e.get("event") == "evaluation"]


def chart(evaluations: Sequence[Mapping[str, Any]]) -> Chart | None:
    """The held-out loss of every candidate in the order of the search; None where there are none."""
    shown = [e for e in evaluations if e["loss"] is not None]
    if not shown:
        return None
    width, height, margin = _CHART
    low, high = min(e["loss"] for e in shown), max(e["loss"] for e in shown)
    step = (width - 2 * margin) / max(len(shown) - 1, 1)
    scale = (height - 2 * margin) / ((high - low) or 1.0)
    points = tuple(
        Point(
            round(margin + i * step, 1),
            round(height - margin - (e["loss"] - low) * scale, 1),
            bool(e["is_best"]),
            f"{e['width']}: {e['kept']} kept, " + (
                f"loss {e['loss']:.4f}" if e.get("score") is None else f"score {e['score']:.6g}"
            ),
        )
        for i, e in enumerate(shown)
    )
    return Chart(width, height, f"{low:.3f}", f"{high:.3f}", points)


def difference_text(summary: Mapping[str, Any]) -> str:
    """The largest difference that verification found, and what it is of the largest output."""
    off = f"{summary['max_abs_diff']:.2g}"
    if not summary["max_abs_diff"] or "output_scale" not in summary:
        return off
    reach, relative = f"{summary['output_scale']:.2g}", f"{summary['max_rel_diff']:.1g}"
    return f"{off} where outputs reach {reach} (at most {relative} of the largest output)"


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("secateur"),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: visible(value) if isinstance(value, str) else value,
    )
    return environment.get_template("report.html.j2")


def render_report(summary: Mapping[str, Any], plan: PruningPlan, ledger: bytes = b"") -> str:
    """The text of ``report.html``: a function of what else lies in the bundle."""
    rows = width_rows(plan)
    return _template().render(
        factory=summary["factory"],
        module=Path(summary["file"]).stem,
        configured="files" in summary,
        source=summary["source"],
        digest=plan.digest[:8],
        difference=difference_text(summary),
        comparison=comparison(summary),
        widths=rows,
        whole=sum(r.size == r.kept for r in rows),
        frozen=summary["frozen"],
        provenance={k: _shown(v) for k, v in sorted(plan.provenance.items()) if v not in ("", [], {}, None)},
        chart=chart(evaluations_in(ledger)),
    )


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
