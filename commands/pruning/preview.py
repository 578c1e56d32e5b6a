"""What changed, for a look at it: all of it and what it would cost for ``--dry-run``, one block after a run."""

from __future__ import annotations

import ast
import difflib
import inspect
import textwrap
from collections import Counter
from collections.abc import Mapping
from typing import Any

from rich.text import Text
from torch import nn

from ...pruners.base import BasicPruning
from ...pruners.bundle import Bundle, comparison
from ...pruners.named_files import source_text
from ...pruners.plan import PruningPlan

_MOST = 24  # lines of a block
_STYLES = {"+": "green", "-": "red"}


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


# -- after a run


def first_look(bundle: Bundle, model: nn.Module) -> list[Text | str]:
    """One block's change; nothing where no source changed, as with a configuration, whose numbers are in the table."""
    lines = [] if bundle.configured else block_diff(model, bundle.file.read_text("utf-8"))
    if not lines:
        return []
    return [*(Text(line, _STYLES.get(line[:1], ""), no_wrap=True, overflow="ellipsis") for line in lines), ""]


def block_diff(model: nn.Module, text: str) -> list[str]:
    """From the author's source to ``text``, a generated file: the lines that changed in the class that most modules of
    ``model`` are made of. Empty where no class changed that both have."""
    written = {n.name: n for n in ast.parse(text).body if isinstance(n, ast.ClassDef)}
    used = Counter(type(m) for m in model.modules() if type(m).__name__ in written)
    diffs = {kind: _diff(kind, ast.get_source_segment(text, written[kind.__name__]) or "") for kind in used}
    found = [(-n, len(diffs[kind]), diffs[kind]) for kind, n in used.items() if diffs[kind]]
    if not found:
        return []
    lines = min(found)[2]
    return lines if len(lines) <= _MOST else [*lines[:_MOST], f"  ... and {len(lines) - _MOST} lines more"]


def _diff(kind: type[nn.Module], after: str) -> list[str]:
    try:
        before = textwrap.dedent(inspect.getsource(kind))
    except (OSError, TypeError, SyntaxError):  # made, or edited, while the program ran
        return []
    head = f"class {kind.__name__}"
    before = before[before.find(head) :]  # without decorators
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm=""))[2:]
    changed = [line for line in lines if not line.startswith("@@") and line[1:].strip()]
    return [f" {head}:", *changed] if changed else []
