"""``--dry-run``: what would be written and what it would cost."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

from ...pruners.base import BasicPruning
from ...pruners.bundle import comparison
from ...pruners.named_files import source_text
from ...pruners.plan import PruningPlan


def source_diff(pruner: BasicPruning, plan: PruningPlan) -> str:
    """A unified diff from the author's file to the generated one."""
    author = inspect.getsourcefile(inspect.unwrap(pruner.entry.factory))
    before = source_text(author) if author else ""
    name = pruner.entry.origin.partition(",")[0]
    return "".join(
        difflib.unified_diff(
            before.splitlines(keepends=True), pruner.source(plan).splitlines(keepends=True), name, pruner.fileName
        )
    )


def preview_values(pruner: BasicPruning, plan: PruningPlan) -> dict[str, Any]:
    """What ``--dry-run --json`` prints: costs before and after, widths, and the change of the source."""
    costs = pruner.compare_costs(plan.kept)
    widths = {name: {"size": w.size, "kept": len(w.kept)} for name, w in plan.widths.items()}
    return {"schema": 1, "dry_run": True, **costs, "widths": widths, "diff": source_diff(pruner, plan)}


def preview_text(values: Mapping[str, Any]) -> str:
    """``preview_values`` for people."""
    rows = [f"{r.name}: {r.before} -> {r.after} ({r.change})" for r in comparison(values)]
    return "\n".join([values["diff"], "Predicted, nothing written:", *(f"  {row}" for row in rows)])
