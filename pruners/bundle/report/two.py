"""Two bundles of one network beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import UnsuitedError
from ...plan import PruningPlan
from ...shown import template
from .page import measured_on, shown, width_rows
from .rows import Row, comparison

_OWN = {"source_sha256", "weights_sha256"}  # told apart from options: what the network was


@dataclass(frozen=True)
class Side:
    """One of the two: what to call it, and what it holds."""

    name: str
    summary: Mapping[str, Any]
    plan: PruningPlan


@dataclass(frozen=True)
class Pair:
    """A line of a table: what both have, and for measures and widths the whole network ``before``; "" for nothing."""

    name: str
    before: str
    first: str
    second: str


@dataclass(frozen=True)
class Compared:
    """``notes``: what makes the comparison weaker."""

    first: str
    second: str
    measures: tuple[Pair, ...]
    widths: tuple[Pair, ...]
    options: tuple[Pair, ...]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        tables = {name: [vars(p) for p in getattr(self, name)] for name in ("measures", "widths", "options")}
        return {"schema": 1, "first": self.first, "second": self.second, **tables, "notes": list(self.notes)}


def compared(first: Side, second: Side) -> Compared:
    """Raises UsageError where they are of different networks: other parameters or MACs before, other widths."""
    _require_same(first, second)
    facts = [s.plan.provenance for s in (first, second)]
    names = sorted(n for n in {*facts[0], *facts[1]} - _OWN if facts[0].get(n) != facts[1].get(n))
    options = tuple(Pair(n, "", *(shown(f[n]) if n in f else "" for f in facts)) for n in names)
    made_from = (("weights_sha256", "weights"), ("source_sha256", "source"))
    notes = [f"they were made from other {what}" for key, what in made_from if facts[0].get(key) != facts[1].get(key)]
    machines = [s.summary.get("machine") for s in (first, second)]
    if machines[0] != machines[1]:
        notes.append("milliseconds were measured on different machines")
    notes += [f"{s.name}: {told}" for s in (first, second) if (told := measured_on(s.summary, s.plan))]
    return Compared(first.name, second.name, _measures(first, second), _widths(first, second), options, tuple(notes))


def render_comparison(first: Side, second: Side) -> str:
    """The comparison as one HTML file, nothing to fetch. Raises UsageError as ``compared`` does."""
    rows = [{r.name: r for r in width_rows(s.plan)} for s in (first, second)]
    return template("comparison.html.j2", page=True).render(told=compared(first, second), first=rows[0], second=rows[1])


def _require_same(first: Side, second: Side) -> None:
    sizes = [{n: w.size for n, w in s.plan.widths.items()} for s in (first, second)]
    common = {*sizes[0]} & {*sizes[1]}
    for what, name in (("params", "parameters"), ("macs", "MACs")):
        counts = [(s.summary.get(what) or {}).get("before") for s in (first, second)]
        if None not in counts and counts[0] != counts[1]:
            told = " and ".join(f"{s.name} of one with {n:,}" for s, n in zip((first, second), counts, strict=True))
            raise UnsuitedError(f"only bundles of one network, made on inputs of one size, are compared: {told} {name}")
    if not common or any(sizes[0][n] != sizes[1][n] for n in common):
        raise UnsuitedError(
            f"only bundles of one network are compared: {first.name} and {second.name} have no widths in common"
        )


def _measures(first: Side, second: Side) -> tuple[Pair, ...]:
    rows = [{r.name: r for r in comparison(s.summary)} for s in (first, second)]
    found = []
    for name in dict.fromkeys([*rows[0], *rows[1]]):
        known = [r.get(name) for r in rows]
        before = dict.fromkeys(r.before for r in known if r and r.before)
        found.append(Pair(name, " / ".join(before), *(_cell(r) for r in known)))
    return tuple(found)


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    return f"{row.after} ({row.change})" if row.change else row.after


def _widths(first: Side, second: Side) -> tuple[Pair, ...]:
    found = []
    plans = [s.plan.widths for s in (first, second)]
    for name in dict.fromkeys([*plans[0], *plans[1]]):
        size = next(p[name].size for p in plans if name in p)
        found.append(Pair(name, str(size), *(str(len(p[name].kept)) if name in p else "" for p in plans)))
    return tuple(found)
