"""``app.py retrain``: more training for a bundle's generated network. Needs nothing but the bundle and images."""

from __future__ import annotations

import json
import math
import re
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..pruners.bundle import Bundle, contents, held, published, report_of, write_file, write_state
from ..pruners.configured import rewritten
from ..pruners.costs import Costs
from ..pruners.errors import NeedsDataError, UnsuitedError
from ..pruners.hub import foretells, is_configured, longest, tokenizer_of
from ..pruners.run import precision_of, rounded, scores_of, training_batch, widened
from ..pruners.verify import Case, fits_double, measured, trains, varied, verify_bundle
from ..training.data import (
    LENGTH,
    Data,
    damaged_in,
    foretelling,
    load_data,
    load_text,
    require_labels,
    require_trainable,
)
from ..training.fit import Score, check_writable, curve_rows, evaluate, fit, resolve_device
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
            raise UnsuitedError(f"{bundle.path} is packed, for inference alone: retrain the bundle that it was made of")
        output = retrained_folder(options)
        stack.enter_context(held(output))
        check_retrained(output, options)
        checkpoint = unfinished(output)
        check_writable(checkpoint)
        facts = bundle.plan.provenance
        network = bundle.model
        device, dtype = resolve_device(options.device), widened(network)
        data = (_text if bundle.configured else _images)(bundle, network, options)
        network = Foretelling(network) if data.is_text else network
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


class Foretelling(nn.Module):
    """A model of language that gives a row of scores for every token but the first: tokens in, (N * (tokens - 1),
    words) out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        scores = scores_of(self.model(tokens), tokens)
        assert scores is not None
        return scores.view(*tokens.shape, -1)[:, :-1].flatten(0, 1)


def _spec(bundle: Bundle, options: BundleOptions) -> str:
    spec = data_of_bundle(bundle, options.data)
    if not spec:
        what = "text" if bundle.configured else "images"
        raise NeedsDataError(f"{bundle.path} was made without {what}: say what to train on with --data")
    return spec


def _images(bundle: Bundle, network: nn.Module, options: BundleOptions) -> Data:
    data = served(load_data(_spec(bundle, options)), options)
    require_labels(data, "retraining")
    require_trainable(data, "retraining")
    return check_outputs(str(bundle.path), network, inputs_of_bundle(bundle, data=data), data)


def _text(bundle: Bundle, network: nn.Module, options: BundleOptions) -> Data:
    """For a model of language, which learns to foretell the next token. Raises UsageError for other models."""
    spec = _spec(bundle, options)
    if not foretells(network):
        raise UnsuitedError(
            f"{bundle.path}: {type(network).__name__} doesn't foretell the next token, and other models of "
            "transformers are not retrained: train it as you trained the original"
        )
    if not spec.startswith("text:"):
        raise UnsuitedError(f"{bundle.path} is a model of language: give text to train on, --data text:FILES")
    return foretelling(served(load_text(spec, tokenizer_of(bundle.folder), longest(network, LENGTH)), options))


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
            needs = re.search(rb"^\s*(import|from)\s+torchvision\b", kept[bundle.file.name], re.MULTILINE)
            checked = verify_bundle(
                draft / bundle.file.name, summary["factory"], [_case(network, inputs)], _costs(summary), 1,
                () if needs else ("torchvision",),
            )  # fmt: skip
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
