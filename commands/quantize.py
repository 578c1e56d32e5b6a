"""``app.py quantize``: accuracy and size in 16 bits, in fixed point and in 8-bit integers, without training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from torch import nn

from ..pruners.bundle import Bundle, check_free, contents, held, published, write_file, write_state
from ..pruners.errors import (
    BundleExistsError,
    ConflictError,
    NeedsDataError,
    NotGivenError,
    OptionError,
    UnsuitedError,
    some,
)
from ..pruners.plan import sha256_of_state
from ..training.binarization import FEWEST, MOST, SCOPES, Scope, require_finite, weights_of
from ..training.data import Data, damaged_in, require_labels, with_workers
from .cli import QuantizeOptions, require_one
from .network import network_from, subject_of_bundle, with_trained_weights
from .quantizing import CALIBRATION_IMAGES, Bench, Result, finite
from .show import Voice, skipped, table

_HUB = (
    "{} is a model of Hugging Face's library, and accuracy in few bits is measured on images: quantize the folder as "
    "you would quantize the original"
)
WEIGHTS, FACTS = "weights.pth", "quantization.json"
NO_INT8 = (
    "--save int8: torch's 8-bit network is a program of its own, with layers that hold packed integers, so none of its "
    "weights fit your model file; take --save fixed --bits 8, which do, or make it where it is to run, in Python: "
    "secateur.training.binarization.post_training.to_int8(network, batches)"
)


def run(options: QuantizeOptions) -> None:
    require_one(options)
    bits = _check_options(options)
    with Voice(options.verbose, options.json) as voice, ExitStack() as stack:
        if options.output is not None:
            stack.enter_context(held(options.output))
        name, model, data = _subject(options, voice)
        require_finite(model)
        bench = Bench(model, with_workers(data, options.workers), options, voice)
        fewest = bench.fewest_bits()
        results = bench.results(bits, fewest)
        chosen = _choose(options, results)
        saved = _save(options, bench, chosen, name) if chosen is not None and options.output is not None else []
        if damaged := damaged_in(bench.data):
            voice.remark(skipped(damaged))
    values = _values(options, name, bench, results, fewest) | {"saved": [str(path) for path in saved]}
    shown = [_table(name, results, options), "", *_reasons(results), *_notes(options, bench, fewest)]
    voice.result([*shown, *map(str, saved)], values)
    if options.save and not saved:
        raise UnsuitedError(f"nothing is saved: {_refusal(options, results)}")


def bits_from(text: str) -> tuple[int, ...]:
    """``"8,6,4"`` as numbers, most first."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and FEWEST <= int(word) <= MOST for word in words):
        raise OptionError(f"--bits {text}: write numbers from {FEWEST} to {MOST}, such as 8,6,4")
    return tuple(sorted({int(word) for word in words}, reverse=True))


def _check_options(options: QuantizeOptions) -> tuple[int, ...]:
    """The bits; what can't be done is refused before anything is read or measured."""
    bits = bits_from(options.bits)
    if options.save == "int8":
        raise UnsuitedError(NO_INT8)
    if options.save is None and options.output is not None:
        raise ConflictError("-o says where, --save half or --save fixed says what: add it")
    if options.save is not None and options.output is None:
        raise NotGivenError(f"--save {options.save}: say where, with -o DIR")
    if options.save == "fixed" and options.max_loss is None and len(bits) * len(options.scope or SCOPES) != 1:
        raise NotGivenError(
            "--save fixed: say which, with one --bits and one --scope (--bits 8 --scope layer), or --max-loss POINTS, "
            "which takes the smallest that loses no more"
        )
    if options.output is not None:
        check_free(options.output, options.force)
        others = set(contents(options.output)[0]) - {WEIGHTS, FACTS} if options.output.exists() else set()
        if others:
            raise BundleExistsError(
                f"{options.output} holds other things ({min(others)}): choose another folder with -o"
            )
    return bits


def _subject(options: QuantizeOptions, voice: Voice) -> tuple[str, nn.Module, Data]:
    if options.bundle is not None:
        if Bundle.open(options.bundle).configured:
            raise UnsuitedError(_HUB.format(options.bundle))
        name, model, data = subject_of_bundle(options.bundle, options.data)
    else:
        network = network_from(options, voice)
        if network.data is not None:
            require_labels(network.data, "quantizing")
            network = with_trained_weights(network, voice, options.seed, options.device)
        name, model, data = network.name, network.model, network.data
    if data is None:
        raise NeedsDataError("quantizing measures accuracy on images of known classes: add --data")
    require_labels(data, "quantizing")
    return name, model.eval(), data


# -- saving


def _choose(options: QuantizeOptions, results: Sequence[Result]) -> Result | None:
    """The smallest of what was asked for that may be saved; of equally small ones that with the least noise."""
    good = [
        r for r in results
        if r.row.form.kind == options.save and r.row.accuracy is not None and r.meets is not False
    ]  # fmt: skip
    return min(good, key=lambda r: (r.row.size_bytes or 0, -(r.row.sqnr or 0)), default=None)


def _refusal(options: QuantizeOptions, results: Sequence[Result]) -> str:
    reasons = [r.row.reason for r in results if r.row.form.kind == options.save and r.row.reason]
    return reasons[0] if reasons else f"no such form keeps the loss within {options.max_loss:g} points (--max-loss)"


def _save(options: QuantizeOptions, bench: Bench, chosen: Result, name: str) -> list[Path]:
    output, form = options.output, chosen.row.form
    assert output is not None
    made = form.of(bench.model)
    facts = {
        "schema": 1,
        "network": name,
        "weights_before": sha256_of_state(bench.model.state_dict()),
        **chosen.values,
    }
    if made.exponents is not None:
        facts["exponents"] = made.exponents
    with published(output, options.force) as draft:
        write_state(draft / WEIGHTS, bench.state(form))
        write_file(draft / FACTS, (json.dumps(facts, indent=1) + "\n").encode())
    return [output / WEIGHTS, output / FACTS]


# -- showing


def _table(name: str, results: Sequence[Result], options: QuantizeOptions) -> RenderableType:
    more = [f"#validation, within {options.max_loss:g}"] if options.max_loss is not None else []
    shown = table(name, "weights", "#accuracy", "#points", "#SQNR (dB)", "#numbers (bytes)", "#file (bytes)", *more)
    for result in results:
        cells = [result.row.name, *_cells(result)]
        if more:
            cells.append("" if result.val_change is None else f"{result.val_change:+.2f} {_YES_NO[bool(result.meets)]}")
        shown.add_row(*cells)
    return shown


_YES_NO = {True: "yes", False: " no"}


def _cells(result: Result) -> list[str]:
    row = result.row
    if row.accuracy is None or row.size_bytes is None or result.change is None:
        return ["none, see", "below", "", "", ""]
    noise = "" if row.sqnr is None else "exact" if finite(row.sqnr) is None else f"{row.sqnr:.1f}"
    file = "" if result.file_bytes is None else f"{result.file_bytes:,}"
    return [f"{row.accuracy:.2%}", f"{result.change:+.2f}", noise, f"{row.size_bytes:,}", file]


def _reasons(results: Sequence[Result]) -> list[str]:
    """Why rows are empty; once for all bits and scopes."""
    named = [("fixed point" if r.row.form.kind == "fixed" else r.row.name, r.row.reason) for r in results]
    return [f"{name}: {reason}" for name, reason in dict.fromkeys(named) if reason]


def _notes(options: QuantizeOptions, bench: Bench, fewest: Mapping[Scope, int | None]) -> list[str]:
    data, weights = bench.data, weights_of(bench.model)
    overwritten = sum(tensor.numel() for tensor, _ in weights.tensors.values())
    every = sum(p.numel() for p in bench.model.parameters())
    notes = [
        f"accuracy on {len(data.test)} test images of {data.name}; numbers: closely packed; file: as --save writes it "
        "(fixed point in tensors of floats); int8 by torch.ao (deprecated by torch), on the CPU, ranges from "
        f"{min(CALIBRATION_IMAGES, len(data.train))} training images",
        f"fixed point overwrites {overwritten:,} of {every:,} parameters, the weights of layers; biases, norms and the "
        "like stay",
    ]
    for what, names in (
        ("layers that quantize their weights themselves stay, and count with their own bits", weights.few_bits),
        ("layers whose weight is computed from other tensors stay", weights.computed),
        ("parameters outside of known layers stay", weights.others),
        ("taken to compute with their weights as they are: layers of the classes", weights.own),
    ):
        notes += [f"{what}: {some(names)}"] if names else []
    if fewest:
        found = ", ".join(f"{'none' if n is None else n} per {scope}" for scope, n in fewest.items())
        notes.append(
            f"fewest bits within {options.max_loss:g} points on {len(data.val)} validation images (which decide; test "
            f"images only report): {found}" + (f" up to {MOST}" if None in fewest.values() else "")
        )
    return notes


def _values(
    options: QuantizeOptions, name: str, bench: Bench, results: Sequence[Result], fewest: Mapping[Scope, int | None]
) -> dict[str, Any]:
    weights = weights_of(bench.model)
    decided = {"max_loss": options.max_loss, "validation_images": len(bench.data.val), "fewest_bits": dict(fewest)}
    return {
        "schema": 1,
        "name": name,
        "data": bench.data.name,
        "images": len(bench.data.test),
        "rows": [result.values for result in results],
        "stays": {"few_bits": weights.few_bits, "computed": weights.computed, "others": weights.others},
        **(decided if options.max_loss is not None else {}),
    }
