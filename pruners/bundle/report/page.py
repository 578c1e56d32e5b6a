"""``report.html``: what was there, what is there now, what stayed and why. One file, nothing to fetch."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...plan import PruningPlan
from ...shown import template
from .charts import Chart, evaluations_in, healing_chart, search_chart, training_charts
from .diff import changes
from .picture import picture, share_of
from .rows import comparison, difference_text

_REMARKS = {
    "without": "whole layers were taken out: ", "doubts": "", "warnings": "", "notes": "",
    "left_behind": "of the model's folder these don't go along: ",
    "lost": "of the author's code the written one doesn't hold: ",
    "stale": "these have a number that a width had and has no more: ",
}  # fmt: skip


@dataclass(frozen=True)
class WidthRow:
    name: str
    size: int
    kept: int

    @property
    def percent(self) -> float:
        return round(100 * self.kept / self.size, 1)

    @property
    def share(self) -> str:
        return share_of(self.kept, self.size)


def width_rows(plan: PruningPlan) -> list[WidthRow]:
    return [WidthRow(name, w.size, len(w.kept)) for name, w in plan.widths.items()]


def render_report(
    summary: Mapping[str, Any], plan: PruningPlan, ledger: bytes = b"", details: Mapping[str, Any] | None = None,
    text: str = "",
) -> str:  # fmt: skip
    """The text of ``report.html``: a function of what else lies in the bundle. ``details``: what ``details.json``
    holds, ``text``: the generated file."""
    details = details or {}
    rows = width_rows(plan)
    facts = {k: shown(v) for k, v in sorted(plan.provenance.items()) if v not in ("", [], {}, None)}
    return template("report.html.j2", page=True).render(
        factory=summary["factory"],
        module=Path(summary["file"]).stem,
        file=summary["file"],
        configured="files" in summary,
        source=summary["source"],
        digest=plan.digest[:8],
        difference=difference_text(summary),
        compared=summary.get("compared") or [],
        comparison=comparison(summary),
        measured=measured_on(summary, plan),
        remarks=_remarks(summary),
        changes=changes(details.get("source") or [], _written(text)) if text else [],
        text=text,
        picture=picture(plan, details, summary["frozen"]),
        layers=details.get("layers") or [],
        widths=rows,
        whole=sum(r.size == r.kept for r in rows),
        frozen=summary["frozen"],
        charts=_charts(summary, ledger),
        machine=summary.get("machine") or {},
        provenance=facts,
    )


def _charts(summary: Mapping[str, Any], ledger: bytes) -> list[Chart]:
    healed = (summary.get("transfer") or {}).get("healed") or {}
    found = [
        search_chart(evaluations_in(ledger)), healing_chart(healed.get("curve") or []),
        *training_charts(summary.get("training") or []),
    ]  # fmt: skip
    return [c for c in found if c]


def measured_on(summary: Mapping[str, Any], plan: PruningPlan) -> str:
    """Under the table: on which data, inputs and machine what was measured was measured."""
    data, machine = plan.provenance.get("data"), summary.get("machine") or {}
    accurate = any(v is not None for v in (summary.get("accuracy") or {}).values())
    told = [f"Accuracy: on the test images of {data}."] if accurate and data else []
    if agreement := summary.get("agreement"):
        told.append(f"The same class: of {agreement['images']} images of {data}.")
    if summary.get("latency_ms"):
        where = ""
        if machine:
            threads = f"{machine['threads']} thread{'s' * (machine['threads'] != 1)}"
            where = f" on {machine['cpu']}, {threads}" if machine["device"] == "cpu" else f" on {machine['device']}"
        told.append(f"Milliseconds: the median of a forward pass{where}.")
    return " ".join(told)


def _remarks(summary: Mapping[str, Any]) -> list[str]:
    """What somebody who takes the network over has to know."""
    told = []
    for key, head in _REMARKS.items():
        said = summary.get(key) or []
        told += [head + ", ".join(said)] if head and said else [str(s) for s in said]
    return told


def _written(text: str) -> dict[str, str]:
    """The classes and functions of a generated file, with their decorators."""
    kinds = ast.ClassDef | ast.FunctionDef
    lines = text.splitlines()
    return {
        n.name: "\n".join(lines[min([n.lineno, *(d.lineno for d in n.decorator_list)]) - 1 : n.end_lineno])
        for n in ast.parse(text).body if isinstance(n, kinds)
    }  # fmt: skip


def shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
