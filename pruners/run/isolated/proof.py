"""A network beside what it must give."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .calling import as_double, call, tensors_in, transparent, widely
from .counting import MacCounter
from .draws import EvenDraws, seeded
from .restoring import buffers_restored, without_traces
from .streaming import from_files, state_of, take


def compare(out: Any, expected: list[Tensor]) -> tuple[float, float]:
    """Largest difference, and the scale of the expected values. Equal infinities, and NaN beside NaN, don't differ."""
    found = tensors_in(out)
    if [t.shape for t in found] != [t.shape for t in expected]:
        shapes = [[tuple(t.shape) for t in tensors] for tensors in (found, expected)]
        raise ValueError(f"outputs of shapes {shapes[0]}, not {shapes[1]}")
    worst, scale = 0.0, 0.0
    for got, want in zip(found, expected, strict=True):
        if got.is_complex():
            got, want = torch.view_as_real(got), torch.view_as_real(want)
        got, want = got.double(), want.double()
        differ = ~((got == want) | (got.isnan() & want.isnan()))
        if differ.any():
            off = float((got - want)[differ].abs().max())
            worst = max(worst, off if off == off else float("inf"))
        if want.isfinite().any():
            scale = max(scale, float(want[want.isfinite()].abs().max()))
    return worst, scale


def train_step(model: nn.Module, inputs: Any) -> str:
    """Forward and backward in training mode; the error, if there is one. Every gradient goes as soon as it is there."""
    model.train()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(_forget)
    try:
        out = call(model, inputs)
        total = sum(t.float().sum() for t in tensors_in(out) if t.is_floating_point())
        total.backward()  # type: ignore[union-attr]
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return ""


def _forget(parameter: Tensor) -> None:
    parameter.grad = None


def run_case(model: nn.Module, case: Mapping[str, Any], own: Mapping[str, Tensor]) -> dict[str, Any]:
    """Outputs of the model with the case's weights, beside what they must be; without ``outputs`` it has to run."""
    take(model, own if case["state"] is None else case["state"])
    if case["double"]:
        model.double()
    elif any(p.dtype in (torch.float16, torch.bfloat16) for p in model.parameters()):
        model.float()
    counter = MacCounter()
    even = EvenDraws() if case["even_draws"] else nullcontext()
    wide = widely(case["double"])
    around = (transparent(model.train(case["training"])), buffers_restored(model), seeded(), even, wide, counter)
    with torch.no_grad(), without_traces(model), ExitStack() as stack:
        for context in around:
            stack.enter_context(context)
        try:
            called = getattr(model, case["method"]) if case["method"] else model
            out = call(called, as_double(case["inputs"]) if case["double"] else case["inputs"])
        except Exception as error:
            error.add_note(f"({case['name']})")
            raise
    worst, scale = (0.0, 0.0) if case["outputs"] is None else compare(out, case["outputs"])
    return {"name": case["name"], "diff": worst, "scale": scale, "macs": counter.macs, "train": ""}


class _Blocker:
    """Makes importing the named packages an error."""

    def __init__(self, names: list[str]) -> None:
        self._names = set(names)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name.partition(".")[0] in self._names:
            raise ImportError(f"the file needs the package {name}, which a standalone file must not")
        return None


def load(file: str, factory: str) -> nn.Module:
    """Import the file and call its factory."""
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    model: nn.Module = getattr(module, factory)()
    return model


def main(file: str, factory: str, weights: str, check: str, blocked: str) -> dict[str, Any]:
    sys.meta_path.insert(0, _Blocker(blocked.split(",")))
    sys.dont_write_bytecode = True
    torch.set_num_threads(1)
    cases = torch.load(check, weights_only=True, map_location="cpu", mmap=True)
    model = load(file, factory)
    if any(case["streamed"] for case in cases):
        from_files(model)
        own = state_of(model)
    elif weights:
        own = torch.load(weights, weights_only=True, map_location="cpu", mmap=True)
    else:
        own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    precisions = {p.dtype for p in model.parameters() if p.is_floating_point()}
    results = [run_case(model, case, own) for case in cases]
    params = sum(p.numel() for p in model.parameters())
    if trained_as_it_is := precisions <= {torch.float32}:
        model.float()
    for case, result in zip(cases, results, strict=True):
        if case["train_inputs"] is not None:
            double = case["double"] and not trained_as_it_is
            with widely(double):
                result["train"] = train_step(model, as_double(case["train_inputs"]) if double else case["train_inputs"])
    return {"cases": results, "params": params}


def report(arguments: list[str]) -> str:
    try:
        found = main(*arguments)
    except Exception as problem:
        found = {"error": " ".join([f"{type(problem).__name__}: {problem}", *getattr(problem, "__notes__", ())])}
    return json.dumps(found)


def serve(ready: Sequence[str]) -> None:
    """One request a line, each answered by a forked child: a fresh process without the cost of importing torch, and the
    modules that are to be ``ready``."""
    torch.set_num_threads(1)
    for module in ("numpy.random", *ready):  # seeding needs the first
        with suppress(ModuleNotFoundError):
            importlib.import_module(module)
    gc.freeze()  # else the first collection of every child copies nearly all of its memory
    for line in sys.stdin:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writing, report(json.loads(line)).encode())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as answer:
            text = answer.read()
        os.waitpid(child, 0)
        print(text or json.dumps({"error": "the process died"}), flush=True)
