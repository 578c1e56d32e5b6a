"""``--latency``: measuring before the search."""

from __future__ import annotations

from ...pruners.latency import LatencyModel, Measuring, Table, machine
from ...pruners.pipeline import Pipeline
from ..cli import PruneOptions
from ..show import Shown, Voice


def measured(pipeline: Pipeline, options: PruneOptions, voice: Voice) -> LatencyModel | None:
    """Measure what isn't known yet; None where no budget is of latency."""
    budget, device = pipeline.settings.budget, pipeline.device
    if budget is None or budget.kind != "latency":
        return None
    table = Table(machine(device), options.latency_table)
    if table.remark:
        voice.remark(table.remark)
    shown = Shown(voice.progress, "measuring layers")
    try:
        model = pipeline.measure(Measuring(table, device=device, batch=options.latency_batch, told=shown.report))
    finally:
        shown.finish()
    voice.remark(f"{pipeline.pruner.netName}: {1000 * model.whole:.2f} ms on {device.type}")
    return model
