"""``app.py profile``: parameters, MACs, bits and milliseconds, layer by layer."""

from __future__ import annotations

from dataclasses import asdict

from commands.console import Voice
from commands.inputs import inputs_of_bundle
from commands.kinds import of_bundle
from commands.networks import network_from
from commands.options import EvaluateOptions
from commands.showing import table
from commands.subject import require_one
from pruners.bundle import Bundle
from pruners.profiling import measure, profile


def run(options: EvaluateOptions) -> None:
    require_one(options)
    with Voice(options.verbose, options.json) as voice:
        if options.bundle is not None:
            bundle = Bundle.open(options.bundle)
            name, model, inputs = str(options.bundle), bundle.model, inputs_of_bundle(bundle, options.example)
            of_bundle(model, bundle.plan.provenance)
        else:
            network = network_from(options, voice)
            name, model, inputs = network.name, network.model.eval(), network.example_input
        rows, costs = profile(model, inputs, options.repeats), measure(model, inputs)
    shown = table(name, "layer", "kind", "output", "#parameters", "#MACs", "#bits", "#ms")
    for row in rows:
        shape = "x".join(map(str, row.shape[1:]))
        shown.add_row(row.name, row.kind, shape, *(f"{n:,}" for n in (row.params, row.macs, row.bits)), f"{row.ms:.3f}")
    shown.add_section()
    total = sum(row.ms for row in rows)
    shown.add_row("total", "", "", f"{costs.params:,}", f"{costs.macs:,}", f"{costs.bits:,}", f"{total:.3f}")
    left_out = [f"not counted: {', '.join(costs.uncounted)}"] if costs.uncounted else []
    values = {"schema": 1, "network": name, "layers": [asdict(r) for r in rows], "total": asdict(costs)}
    voice.result([shown, *left_out], values)
