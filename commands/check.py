"""``app.py check``: a block kind's own EXAMPLE through everything, for people who write one."""

from __future__ import annotations

import torch

from ..pruners import decorators
from ..pruners.base import PRUNERS, BasicPruning
from ..pruners.decorators import BlockKind
from ..pruners.errors import UnsuitedError
from ..pruners.loading import load_module
from .cli import CheckOptions
from .show import Voice


def run(options: CheckOptions) -> None:
    module = load_module(str(options.file))
    built_in = list(vars(decorators).values())
    kinds = [v for v in vars(module).values() if isinstance(v, BlockKind) and v not in built_in]
    if not kinds:
        raise UnsuitedError(f"{options.file} defines no block kind: make one with BlockKind(name, calculator)")
    pruner_class = PRUNERS.get(module.__name__, BasicPruning)
    with Voice(options.verbose, options.json) as voice:
        reports = [_check_kind(kind, pruner_class, voice, options.seed) for kind in kinds]
    lines = [f"@{r['kind']}: {r['widths']} widths; pruned, written, transferred, verified" for r in reports]
    voice.result("\n".join(lines), reports)


def _check_kind(kind: BlockKind, pruner_class: type[BasicPruning], voice: Voice, seed: int) -> dict[str, object]:
    """Trace, declare, compare; then remove every second group and prove the file."""
    from ..pruners.declare import check_kind

    graph = check_kind(kind)
    voice.remark(f"@{kind.name}: what the decorator says is what forward does")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, example_input = kind.part("calculator").EXAMPLE()
    pruner = pruner_class(model, example_input)
    ranking = pruner.rank("random", seed=seed)
    kept = {w.name: ranking.keep(w, max(w.size // 2 // w.step, 1) * w.step) for w in graph.widths}
    bundle = pruner.publish(pruner.plan(kept), None)
    return {"kind": kind.name, "widths": len(graph.widths), **bundle.summary}
