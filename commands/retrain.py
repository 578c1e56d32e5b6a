"""``app.py retrain``: more training for a bundle's generated network. Needs nothing but the bundle and images."""

from __future__ import annotations

import json
import math
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..pruners.bundle import Bundle, contents, held, published, report_of, write_file, write_state
from ..pruners.configured import rewritten
from ..pruners.costs import Costs
from ..pruners.errors import NeedsDataError, UnsuitedError
from ..pruners.hub import is_configured
from ..pruners.run import precision_of, rounded, training_batch, widened
from ..pruners.verify import Case, fits_double, measured, trains, varied, verify_bundle
from ..training.data import Data, damaged_in, foretelling, load_data, require_labels, require_trainable
from ..training.fit import Score, check_writable, curve_rows, evaluate, fit, resolve_device
from .cli import BundleOptions, check_retrained, retrained_folder, unfinished
from .network import (
    Foretelling,
    adjusted,
    check_outputs,
    chosen_regime,
    data_of_bundle,
    execution,
    inputs_of_bundle,
    of_bundle,
    refuse_divergence,
    served,
    text_for,
)
from .show import Voice, outcome, skipped

_OTHERS = "train it as you trained the original; other models of transformers are not retrained"


def run(options: BundleOptions) -> None:
    with Voice(options.verbose, options.json) as voice, ExitStack() as stack:
        bundle = Bundle.open(options.bundle)
        if "packed" in bundle.summary:
            raise UnsuitedError(f"{bundle.path} is packed, for inference alone: retrain the bundle that it was made of")
        output = retrained_folder(options)
        stack.enter_context(held(output))
        check_retrained(output, options)
        checkpoint = unfinished(output)
        check_writable(checkpoint)
        facts = bundle.plan.provenance
        network = bundle.model
        device, dtype = resolve_device(options.device), widened(network)
        spec = _spec(bundle, options)
        if bundle.configured:
            network = Foretelling(str(bundle.path), network, _OTHERS)
            data = foretelling(served(text_for(bundle, network, spec), options))
        else:
            data = _images(bundle, network, spec, options)
        kind = of_bundle(network, facts)
        usual = options.regime or ("language" if data.is_text else None)
        regime = chosen_regime(usual, str(facts.get("arch") or ""), network, data.name, "retrain", kind)
        regime = adjusted(replace(regime, epochs=options.epochs or regime.epochs), options)
        before = evaluate(network.to(device), data.test)
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
        after = evaluate(network, data.test)
        changes, told = _compared(bundle, data, before, after)
        changes["training"] = curve_rows(result.history)
        voice.remark(told)
        network.to(torch.device("cpu"))
        if dtype is not None:
            network.to(dtype).float()  # what its file will compute with
        inner = network.model if isinstance(network, Foretelling) else network
        inputs = inputs_of_bundle(bundle, data=None if data.is_text else data)
        made = republish(bundle, inner, inputs, output, changes, options.force)
        checkpoint.unlink(missing_ok=True)
        refuse_divergence(result)
    voice.result(outcome(made), dict(made.summary))


def _spec(bundle: Bundle, options: BundleOptions) -> str:
    spec = data_of_bundle(bundle, options.data)
    if not spec:
        what = "text" if bundle.configured else "images"
        raise NeedsDataError(f"{bundle.path} was made without {what}: say what to train on with --data")
    return spec


def _images(bundle: Bundle, network: nn.Module, spec: str, options: BundleOptions) -> Data:
    data = served(load_data(spec), options)
    require_labels(data, "retraining")
    require_trainable(data, "retraining")
    return check_outputs(str(bundle.path), network, inputs_of_bundle(bundle, data=data), data)


def _compared(bundle: Bundle, data: Data, before: Score, after: Score) -> tuple[dict[str, Any], str]:
    """For the summary, and in a line: accuracies, or perplexities of text."""
    name = "perplexity" if data.is_text else "accuracy"
    pruned, retrained = (math.exp(s.loss) if data.is_text else s.top1 for s in (before, after))
    known = bundle.summary.get(name) or {}
    last = known.get("pruned") if known.get("retrained") is None else known["retrained"]
    same = last is not None and math.isclose(last, pruned, rel_tol=0.005)
    told = f"{pruned:.3f} -> {retrained:.3f}" if data.is_text else f"{pruned:.2%} -> {retrained:.2%}"
    words = "perplexity of held-out text" if data.is_text else "test accuracy"
    if last is not None and not same:  # what was measured on other data is not to stand beside it
        told += f", on other data than the bundle's own figures ({last:.4g}), which are left out"
    old = known if same else {"before": None, "pruned": pruned}
    return {name: {**old, "retrained": retrained}}, f"{words} {told}"


def republish(
    bundle: Bundle, network: nn.Module, inputs: Any, output: Path, changes: dict[str, Any], force: bool = False
) -> Bundle:
    """The bundle with the weights of ``network``, verified again."""
    kept = {name: (bundle.folder / name).read_bytes() for name in contents(bundle.folder)[0]}
    summary = dict(bundle.summary)
    with published(output, force) as draft:
        if bundle.configured:
            checked = rewritten(bundle.folder, draft, network, inputs, partial(_case, network, inputs), _costs(summary))
            kept = {name: data for name, data in kept.items() if not (draft / name).exists()}
        for name, data in kept.items():
            write_file(draft / name, data)
        if not bundle.configured:
            precision = precision_of(Bundle.open(bundle.folder).model)  # bundle's own may have been widened
            write_state(draft / "weights.pth", rounded(network.state_dict(), precision))
            checked = verify_bundle(
                draft / bundle.file.name, summary["factory"], [_case(network, inputs)], _costs(summary), 1
            )
        told = {**summary, **checked.about_macs(summary["macs"]), **changes, **checked.as_dict()}
        write_file(draft / "summary.json", (json.dumps(told, indent=2) + "\n").encode())
        write_file(draft / "report.html", report_of(draft).encode())
    return Bundle(output, bundle.plan, told)


def _case(network: nn.Module, example_input: Any) -> Case:
    inputs = varied(example_input, 1, network)
    outputs, double = measured(network, inputs, fits_double(network) and not is_configured(network))
    steps = training_batch(inputs)
    return Case("the retrained weights", inputs, outputs, None, double, steps, partial(trains, network, steps))


def _costs(summary: dict[str, Any]) -> Costs:
    return Costs(*(summary[name]["after"] for name in ("params", "macs", "bits", "size_bytes")))
