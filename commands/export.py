"""``app.py export``: a network as a file that another runtime opens, proved there before it is published."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import RenderableType
from torch import Tensor, nn

from ..pruners.bundle import Bundle, size_of_state
from ..pruners.errors import UnsuitedError, VerificationError, some
from ..pruners.latency import Run, in_turns, machine, with_batch
from ..pruners.outputs import published_file
from ..pruners.run import call_arguments, described, examples_of, precision_of, wide, widened
from ..training.data import Data, damaged_in, load_data
from ..training.exporting import (
    TARGETS,
    TOLERANCE,
    TOLERANCE_INT8,
    Target,
    agreement,
    in_float16,
    matched,
    packed_layers,
    program_of,
    quantized,
)
from ..training.fit import EVALUATION_BATCH, evaluate
from .cli import GENERATED, ExportOptions, check_exported, exported_file, require_one
from .network import SYNTHETIC, check_outputs, data_of_bundle, inputs_of_bundle, network_from, synthetic
from .show import Voice, skipped, table

_CALIBRATION, _AT_ONCE = 256, 64
_ROUNDS, _SECONDS = 30, 5.0


@dataclass(frozen=True)
class Subject:
    """What is exported, and what it is calibrated and measured on in 8 bits."""

    name: str
    network: nn.Module
    inputs: Any
    output: Path
    data: Data | None = None


def run(options: ExportOptions) -> None:
    require_one(options)
    with Voice(options.verbose, options.json) as voice:
        subject = _subject(options, voice)
        check_exported(subject.output, options)
        values = _exported(subject, TARGETS[options.to], options, voice)
    voice.result(_shown(values), values)


# -- what is exported


def _subject(options: ExportOptions, voice: Voice) -> Subject:
    """The network in eval mode, in the precision that its weights have; of 8 bits with inputs to calibrate on."""
    data = None
    if options.bundle is not None:
        bundle = Bundle.open(options.bundle)
        name, network, inputs = str(options.bundle), bundle.model, inputs_of_bundle(bundle, options.example)
        like, configured, dtype = options.bundle, bundle.configured, widened(network) or precision_of(network)
        if options.int8:
            _check_int8(name, inputs)
            spec = data_of_bundle(bundle, options.data)
            data = load_data(spec) if spec and spec != SYNTHETIC else synthetic(network, inputs, options, voice)
            data = check_outputs(name, network, inputs, data)
    else:
        found = network_from(options, voice)
        name, network, inputs = found.name, found.model, examples_of(found.example_input)[0]
        like, configured = GENERATED / found.label, found.entry.folder is not None
        dtype = found.entry.dtype or precision_of(network)
        if options.int8:
            _check_int8(name, inputs)
            data = found.data or synthetic(network, inputs, options, voice)
        if found.weights is None and not configured:
            voice.remark(f"no --weights: {name} is exported as its factory returns it")
    if configured and options.to == "safetensors":
        raise UnsuitedError(f"{name} holds its weights as safetensors already")
    _check_bits(name, network, TARGETS[options.to], voice)
    strange = dtype == torch.bfloat16 and options.to in ("executorch", "onnx")  # which compute in it on no CPU
    if dtype != torch.float32 and (configured or options.int8 or strange):
        voice.remark(f"its weights are {_type(dtype)}: the file holds float32; --half makes it float16")
        dtype = torch.float32
    if dtype != precision_of(network):  # numbers of several types stay as they are
        network.to(dtype)
    output = options.output or exported_file(like, options)
    return Subject(name, network.eval().requires_grad_(False), wide(inputs, dtype), output, data)


def _check_int8(name: str, inputs: Any) -> None:
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
        raise UnsuitedError(f"--int8 is for networks that take one tensor of numbers, and {name} takes others")


def _check_bits(name: str, network: nn.Module, target: Target, voice: Voice) -> None:
    """What becomes of weights that are bits is said before the work."""
    if packed := packed_layers(network):
        if not target.bits:
            raise UnsuitedError(
                f"{name} holds weights as bits ({some(packed)}), for which {target.name} has no operation: export the "
                "bundle that it was packed from, or take --to torch_export"
            )
        if target.computes:
            voice.remark(
                f"{name} holds weights as bits: where numba is installed the program calls their own operation, "
                "packed_signs::convolve_v1, so import the packed model.py before you load it"
            )


# -- the file


def _exported(subject: Subject, target: Target, options: ExportOptions, voice: Voice) -> dict[str, Any]:
    network, data = subject.network, subject.data
    written = in_float16(network) if options.half else network
    dtype = precision_of(written)
    program = program_of(written, wide(subject.inputs, dtype), target.most)
    inputs = wide(program.inputs, precision_of(network))
    reference, tolerance = network, TOLERANCE[dtype]
    started = time.perf_counter()
    if options.int8:
        assert data is not None
        voice.remark(f"taking ranges from {min(_CALIBRATION, len(data.train))} inputs of {data.name}")
        drawn = data.train.sample(_CALIBRATION, options.seed).batches(target.most or _AT_ONCE)
        program = quantized(program, (x for x, _ in drawn), target.name)
        reference, tolerance = program.network, TOLERANCE_INT8
    voice.remark(f"writing {subject.output}")
    if target.computes:
        program.exported  # noqa: B018  (what can't be exported leaves nothing)
    with published_file(subject.output) as draft:
        target.write(program, draft)
        try:
            file = target.opened(draft, program)
        except Exception as error:  # the runtime's
            raise VerificationError(f"the file can't be opened: {described(error)}; nothing is written") from error
        match = matched(reference, file, inputs, dtype, tolerance, target.most, longer=program.tokens)
        seconds = time.perf_counter() - started
        facts = _accuracy(network, file, data, target, voice) if options.int8 and data is not None else {}
        ms = _milliseconds(network, file, inputs, dtype) if target.computes else None
        sizes = {"before": size_of_state(network.state_dict()), "after": draft.stat().st_size}
        check_exported(subject.output, options)  # something may have been put there meanwhile
    return {
        "schema": 1, "network": subject.name, "to": target.name, "file": str(subject.output),
        "precision": "int8" if options.int8 else _type(dtype), "size_bytes": sizes, "ms": ms, **asdict(match),
        "largest_batch": target.most, "any_length": program.tokens, "seconds": round(seconds, 2), **facts,
        "machine": machine(torch.device("cpu")),
    }  # fmt: skip


def _accuracy(network: nn.Module, file: nn.Module, data: Data, target: Target, voice: Voice) -> dict[str, Any]:
    """What 8 bits cost: how often both networks say the same, and how often they are right."""
    split, batch = data.test, target.most or EVALUATION_BATCH
    agrees = agreement(network, file, (x for x, _ in split.batches(batch)))
    facts: dict[str, Any] = {"calibration": data.name, "inputs": len(split), "agreement": agrees, "accuracy": None}
    if data.labelled:
        before, after = (evaluate(m, split, batch_size=batch).top1 for m in (network, file))
        facts["accuracy"] = {"before": before, "after": after}
    if damaged := damaged_in(data):
        voice.remark(skipped(damaged))
    return facts


def _milliseconds(network: nn.Module, file: nn.Module, inputs: Any, dtype: torch.dtype) -> dict[str, float]:
    runs = []
    for module, given in ((network, inputs), (file, wide(inputs, dtype))):
        args, kwargs = call_arguments(with_batch(given, 1))
        runs.append(Run(type(module).__name__, module, args, kwargs))
    before, after = in_turns(runs, _ROUNDS, _SECONDS)
    return {"before": 1000 * before, "after": 1000 * after}


# -- showing


def _type(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _shown(values: dict[str, Any]) -> list[RenderableType]:
    size, ms, accuracy = values["size_bytes"], values["ms"], values.get("accuracy")
    shown = table(values["network"], "", "#network", f"#{values['to']}, {values['precision']}")
    shown.add_row("file (bytes)", f"{size['before']:,}", f"{size['after']:,}")
    if ms:
        shown.add_row("ms, batch of 1", f"{ms['before']:.3f}", f"{ms['after']:.3f}")
    if accuracy:
        shown.add_row("accuracy", f"{accuracy['before']:.2%}", f"{accuracy['after']:.2%}")
    against = "the network in 8 bits" if values["precision"] == "int8" else "the network"
    largest = f"1 to {values['largest_batch']}" if values["largest_batch"] else "any size"
    lines = [
        "",
        f"{values['file']}: opened in its runtime and run with batches of {', '.join(map(str, values['batches']))}; "
        f"largest difference from {against} {values['max_rel_diff']:.1g} of the largest output "
        f"(up to {values['tolerance']:g} passes); it takes batches of {largest}"
        + (" and sequences of any length" if values["any_length"] else ""),
    ]
    if (agrees := values.get("agreement")) is not None:
        lines.append(f"8 bits: the same class as the network for {agrees:.2%} of {values['inputs']} inputs of "
                     f"{values['calibration']}")  # fmt: skip
    return [shown, *lines]
