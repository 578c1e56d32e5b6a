"""``app.py retrain``: more training for a bundle's generated network. Needs nothing but the bundle and images."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..pruners.bundle import Bundle, contents, held, published, render_report, write_file, write_state
from ..pruners.costs import Costs
from ..pruners.errors import UsageError
from ..pruners.run import precision_of, rounded, training_batch, widened
from ..pruners.verify import Case, fits_double, measured, trains, varied, verify_bundle
from ..training.data import damaged_in, load_data, require_labels, require_trainable
from ..training.fit import check_writable, evaluate, fit, resolve_device
from .cli import BundleOptions, check_retrained, retrained_folder, unfinished
from .network import (
    adjusted,
    check_outputs,
    chosen_regime,
    data_of_bundle,
    execution,
    inputs_of_bundle,
    of_bundle,
    refuse_divergence,
    served,
)
from .show import Voice, outcome, skipped


def run(options: BundleOptions) -> None:
    with Voice(options.verbose, options.json) as voice, ExitStack() as stack:
        bundle = Bundle.open(options.bundle)
        if "packed" in bundle.summary:
            raise UsageError(f"{bundle.path} is packed, for inference alone: retrain the bundle that it was made of")
        output = retrained_folder(options)
        stack.enter_context(held(output))
        check_retrained(output, options)
        checkpoint = unfinished(output)
        check_writable(checkpoint)
        facts = bundle.plan.provenance
        spec = data_of_bundle(bundle, options.data)
        if not spec:
            raise UsageError(f"{bundle.path} was made without images: say what to train on with --data")
        data = served(load_data(spec), options)
        require_labels(data, "retraining")
        require_trainable(data, "retraining")
        network, device = bundle.model, resolve_device(options.device)
        dtype = widened(network)
        data = check_outputs(str(bundle.path), network, inputs_of_bundle(bundle, data=data), data)
        kind = of_bundle(network, facts)
        regime = chosen_regime(options.regime, str(facts.get("arch") or ""), network, data.name, "retrain", kind)
        regime = adjusted(replace(regime, epochs=options.epochs or regime.epochs), options)
        before = evaluate(network.to(device), data.test).top1
        result = fit(
            network, data, regime, regime.epochs, seed=options.seed, device=device, progress=voice.progress,
            description="retraining", upkeep=kind, execution=execution(options), checkpoint_path=checkpoint,
            resume=options.resume, about={"network": facts["network"]} if facts.get("network") else {},
        )  # fmt: skip
        if result.stopped and not result.best.number:
            checkpoint.unlink(missing_ok=True)  # nothing to go on with
            refuse_divergence(result)
        if damaged := damaged_in(data):
            voice.remark(skipped(damaged))
        after = evaluate(network, data.test).top1
        known = bundle.summary.get("accuracy") or {}
        unknown = {"before": None, "pruned": before} if known.get("pruned") is None else {}
        accuracy = {**known, **unknown, "retrained": after}
        voice.remark(f"test accuracy {before:.2%} -> {after:.2%}")
        network.to(torch.device("cpu"))
        if dtype is not None:
            network.to(dtype).float()  # what its file will compute with
        made = republish(
            bundle, network, inputs_of_bundle(bundle, data=data), output,
            {"accuracy": accuracy}, options.force,
        )  # fmt: skip
        checkpoint.unlink(missing_ok=True)
        refuse_divergence(result)
    voice.result(outcome(made), dict(made.summary))


def republish(
    bundle: Bundle, network: nn.Module, inputs: Any, output: Path, changes: dict[str, Any], force: bool = False
) -> Bundle:
    """The bundle with the weights of ``network``, verified again."""
    kept = {name: (bundle.folder / name).read_bytes() for name in contents(bundle.folder)[0]}
    summary = dict(bundle.summary)
    with published(output, force) as draft:
        for name, data in kept.items():
            write_file(draft / name, data)
        write_state(draft / "weights.pth", rounded(network.state_dict(), precision_of(bundle.model)))
        needs = re.search(rb"^\s*(import|from)\s+torchvision\b", kept[bundle.file.name], re.MULTILINE)
        checked = verify_bundle(
            draft / bundle.file.name, summary["factory"], [_case(network, inputs)], _costs(summary), 1,
            () if needs else ("torchvision",),
        )  # fmt: skip
        told = {**summary, **checked.about_macs(summary["macs"]), **changes, **checked.as_dict()}
        write_file(draft / "summary.json", (json.dumps(told, indent=2) + "\n").encode())
        report = render_report(told, bundle.plan, kept.get("search.jsonl", b""))
        write_file(draft / "report.html", report.encode())
    return Bundle(output, bundle.plan, told)


def _case(network: nn.Module, example_input: Any) -> Case:
    inputs = varied(example_input, 1)
    outputs, double = measured(network, inputs, fits_double(network))
    steps = training_batch(inputs)
    return Case("the retrained weights", inputs, outputs, None, double, steps, partial(trains, network, steps))


def _costs(summary: dict[str, Any]) -> Costs:
    return Costs(*(summary[name]["after"] for name in ("params", "macs", "bits", "size_bytes")))
