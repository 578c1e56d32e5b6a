"""``app.py profile``: parameters, MACs, bits, bit operations, bytes and milliseconds, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table
from torch import Tensor, nn

from ..pruners.bundle import Bundle
from ..pruners.costs import Costs, ProfileRow, measure, profile
from ..pruners.run import examples_of, precision_of, wide
from ..training.binarization import micronet
from .cli import ProfileOptions, data_name, require_one
from .network import inputs_of_bundle, network_from, of_bundle
from .show import Voice, table


def run(options: ProfileOptions) -> None:
    require_one(options)
    with Voice(options.verbose, options.json) as voice:
        if options.bundle is not None:
            shown, values = layers_of(Bundle.open(options.bundle), options.example, options.repeats)
        else:
            network = network_from(options, voice)
            inputs = examples_of(network.example_input)[0]
            data = data_name(str(network.facts.get("data") or ""))
            shown, values = _layers(network.name, network.model.eval(), inputs, options.repeats, data)
    voice.result(shown, values)


def layers_of(bundle: Bundle, example: str | None, repeats: int) -> tuple[list[Any], dict[str, Any]]:
    """What is to be shown of a bundle's layers, for people and as values."""
    model, facts = bundle.model, bundle.plan.provenance
    inputs = wide(inputs_of_bundle(bundle, example), precision_of(model))
    of_bundle(model, facts)
    return _layers(str(bundle.path), model, inputs, repeats, data_name(str(facts.get("data") or "")))


def _layers(name: str, model: nn.Module, inputs: Any, repeats: int, data: str) -> tuple[list[Any], dict[str, Any]]:
    rows, costs = profile(model, inputs, repeats), measure(model, inputs)
    total = {**asdict(costs), "bops": sum(r.bops for r in rows), "ms": sum(r.ms for r in rows)}
    left_out = [f"not counted: {', '.join(costs.uncounted)}"] if costs.uncounted else []
    score = micronet_score(model, inputs, data)
    values = {"schema": 1, "network": name, "layers": [asdict(r) for r in rows], "total": total}
    if score is not None:
        values["micronet"] = score
    return [_layer_table(name, rows, costs, total), *left_out, *_micronet_line(score)], values


def _layer_table(name: str, rows: Sequence[ProfileRow], costs: Costs, total: Mapping[str, Any]) -> Table:
    shown = table(name, "layer", "kind", "output", "#parameters", "#MACs", "#w/a", "#BOPs", "#bits", "#bytes", "#ms")
    for row in rows:
        shape = "x".join(map(str, row.shape[1:]))
        precision = f"{row.weight_bits:g}/{row.input_bits:g}" if row.macs else ""
        sizes = (f"{n:,}" for n in (row.bops, row.bits, row.size_bytes))
        shown.add_row(row.name, row.kind, shape, f"{row.params:,}", f"{row.macs:,}", precision, *sizes, f"{row.ms:.3f}")
    shown.add_section()
    sums = (f"{n:,}" for n in (total["bops"], costs.bits, costs.size_bytes))
    shown.add_row("total", "", "", f"{costs.params:,}", f"{costs.macs:,}", "", *sums, f"{total['ms']:.3f}")
    return shown


def micronet_score(model: nn.Module, inputs: Any, data: str) -> dict[str, Any] | None:
    """The MicroNet score of a network of images, against the baseline of its data, else of CIFAR-100."""
    if not isinstance(inputs, Tensor) or inputs.ndim != 4:
        return None
    baseline = data if data in micronet.BASELINES else "cifar100"
    found = micronet.measure(model, inputs)
    return {"baseline": baseline, "score": found.score(baseline), **asdict(found)}


def _micronet_line(score: Mapping[str, Any] | None) -> list[str]:
    if score is None:
        return []
    operations = score["multiplications"] + score["additions"]
    network = micronet.BASELINES[score["baseline"]].network
    return [
        f"MicroNet score {score['score']:.4f} against {network} ({score['baseline']}): "
        f"storage {score['storage']:,.0f}, operations {operations:,.0f}, both in units of 32 bits"
        + (f"; without {', '.join(score['uncounted'])}" if score["uncounted"] else "")
    ]
