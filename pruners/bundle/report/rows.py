"""The rows of tables that tell what a network was and is: costs, times, accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
    return [Row(n, f"{v['before']:g}", _numbers(v["after"])) for n, v in told.items() if v["before"] != v["after"]]


def _numbers(value: float | Sequence[float]) -> str:
    """One number, or the least and the largest of those of several layers."""
    ends = [min(value), max(value)] if isinstance(value, Sequence) else [value]
    return " to ".join(dict.fromkeys(f"{n:g}" for n in ends))


def _change(before: float, after: float) -> str:
    return f"{100 * (after - before) / before:+.1f} %" if before else ""


def difference_text(summary: Mapping[str, Any]) -> str:
    """The largest difference that verification found, and what it is of the largest output."""
    off = f"{summary['max_abs_diff']:.2g}"
    if not summary["max_abs_diff"] or "output_scale" not in summary:
        return off
    reach, relative = f"{summary['output_scale']:.2g}", f"{summary['max_rel_diff']:.1g}"
    return f"{off} where outputs reach {reach} (at most {relative} of the largest output)"
